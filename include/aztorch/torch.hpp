// LibTorch models, tensors, optimizers and TorchScript straight to and from Azure blobs, and blobs as datasets.
//
//   aztorch::save(model, "https://account.blob.core.windows.net/container/model.pt");
//   aztorch::load(model, "https://account.blob.core.windows.net/container/model.pt");
//
//   aztorch::load_state_dict(model, url);  // what Python wrote with torch.save(model.state_dict(), f)
//   aztorch::save_state_dict(model, url);  // for Python's model.load_state_dict(torch.load(f))
//
//   auto dataset = aztorch::BlobDataset<Example>::from_container_url(container_url, "train/", decode);
//   auto loader = torch::data::make_data_loader(dataset.map(Stack<>()), aztorch::PrefetchSampler(dataset), options);
//
// A save is published whole or not at all, and whatever goes wrong in it is an aztorch::Error that can be caught.
// LibTorch 1.13 and later. Link with libaztorch and LibTorch.
#pragma once

#include "aztorch.hpp"
#include "checkpoint.hpp"
#include "elastic_sampler.hpp"
#include "sampler.hpp"
#include "state_dict.hpp"
#include "torch_dataset.hpp"
