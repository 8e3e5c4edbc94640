// C++17 without LibTorch: Azure blobs as objects and as standard streams. Header-only; link with libaztorch.
//
//     aztorch::IStream in("https://account.blob.core.windows.net/container/labels.csv");
//     for (std::string line; std::getline(in, line);) { ... }
//
//     aztorch::OStream out("https://account.blob.core.windows.net/container/result.csv");
//     out << "accuracy," << accuracy << '\n';
//     out.close();  // publishes the whole blob; without close() nothing is published
//
//     const auto images = aztorch::Dataset::list("https://account.blob.core.windows.net/container", "images/");
//     for (std::size_t i = 0; i < images.size(); ++i) use(images.get(i));  // a loop in order is read ahead
//
// Every failure throws aztorch::Error. For LibTorch's models, tensors and data loaders include torch.hpp.
#pragma once

#include "blob.hpp"
#include "client.hpp"
#include "dataset.hpp"
#include "error.hpp"
#include "iostream.hpp"
#include "log.hpp"
#include "sample.hpp"
#include "stream.hpp"
