// LibTorch models, tensors, optimizers and TorchScript straight to and from Azure blobs.
//
//   aztorch::save(model, "https://account.blob.core.windows.net/container/model.pt");
//   aztorch::load(model, "https://account.blob.core.windows.net/container/model.pt");
//
//   aztorch::load_state_dict(model, url);  // what Python wrote with torch.save(model.state_dict(), f)
//   aztorch::save_state_dict(model, url);  // for Python's model.load_state_dict(torch.load(f))
//
// A save is published whole or not at all, and whatever goes wrong in it is an aztorch::Error that can be caught.
// LibTorch 1.13 and later. Link with libaztorch and LibTorch.
#pragma once

#include "aztorch.hpp"
#include "checkpoint.hpp"
#include "state_dict.hpp"
