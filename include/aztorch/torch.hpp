// C++17 with LibTorch: models, tensors, optimizers and TorchScript to and from Azure blobs, and blobs as datasets.
//
//     aztorch::save(model, "https://account.blob.core.windows.net/container/model.pt");
//     aztorch::load(model, "https://account.blob.core.windows.net/container/model.pt");
//
//     aztorch::load_state_dict(model, url);  // a file of Python's torch.save(model.state_dict(), f)
//     aztorch::save_state_dict(model, url);  // for Python's model.load_state_dict(torch.load(f))
//
//     auto dataset = aztorch::BlobDataset<Example>::from_container_url(container_url, "train/", decode);
//     auto loader = torch::data::make_data_loader(dataset.map(Stack<>()), aztorch::PrefetchSampler(dataset), options);
//
// A save replaces the blob as a whole or not at all. Every failure of a transfer throws an aztorch::Error, which can be
// caught. LibTorch 1.13 and later. Link with libaztorch and LibTorch.
#pragma once

#include "aztorch.hpp"
#include "torch/blob_dataset.hpp"
#include "torch/blob_transform.hpp"
#include "torch/elastic_sampler.hpp"
#include "torch/example.hpp"
#include "torch/iterable_blob_dataset.hpp"
#include "torch/positioned.hpp"
#include "torch/prefetch_sampler.hpp"
#include "torch/serialize.hpp"
#include "torch/state_dict.hpp"
#include "torch/to_tensor.hpp"
