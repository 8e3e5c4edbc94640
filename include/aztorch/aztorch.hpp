// aztorch for C++17: Azure blobs as RAII objects and as standard streams. Header-only; link with libaztorch.
//
//   aztorch::IStream in("https://account.blob.core.windows.net/container/labels.csv");
//   for (std::string line; std::getline(in, line);) { ... }
//
//   aztorch::OStream out("https://account.blob.core.windows.net/container/result.csv");
//   out << "accuracy," << accuracy << '\n';
//   out.close();  // publishes the blob, all of it or nothing; without close() nothing is published
//
//   const auto images = aztorch::Dataset::list("https://account.blob.core.windows.net/container", "images/");
//   for (std::size_t i = 0; i < images.size(); ++i) use(images.get(i));  // reads ahead of a loop in order
//
// Whatever fails throws aztorch::Error. For LibTorch models and tensors see torch.hpp.
#pragma once

#include "blob.hpp"
#include "client.hpp"
#include "dataset.hpp"
#include "error.hpp"
#include "iostream.hpp"
#include "log.hpp"
#include "sample.hpp"
#include "stream.hpp"
