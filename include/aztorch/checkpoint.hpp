// save, load and jit_load: LibTorch's own formats, to and from a blob.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>

#include <torch/csrc/jit/serialization/import.h>
#include <torch/nn/module.h>
#include <torch/serialize.h>

#include "client.hpp"
#include "detail/deferred_writer.hpp"
#include "detail/torch_blob.hpp"

namespace aztorch {

namespace detail {

// `write_to` gets a function that takes bytes as LibTorch hands them out.
template <typename WriteTo>
void save_atomically(const std::string& url, const Client& client, WriteTo write_to) {
  DeferredWriter blob(BlobWriter(url, client));
  write_to([&blob](const void* data, std::size_t length) {
    blob.write(data, length);
    return length;
  });
  blob.close();
}

// `load_from` gets the two functions that LibTorch reads through.
template <typename LoadFrom>
void load_or_explain(const std::string& url, const Client& client, LoadFrom load_from) {
  const auto blob = std::make_shared<BlobAdapter>(url, client);
  try {
    load_from(
        [&blob](std::uint64_t position, void* buffer, std::size_t length) { return blob->read(position, buffer, length); },
        [&blob] { return blob->size(); });
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {
    explain_failed_load(blob);
    throw;
  }
}

}  // namespace detail

// Saves what torch::save takes: a module (also by reference), a tensor, a std::vector of tensors, an optimizer. The blob
// is replaced when all of it has arrived, else it stays as it was.
template <typename Value>
void save(const Value& value, const std::string& url, const Client& client = {}) {
  detail::save_atomically(url, client, [&value](const auto& sink) {
    if constexpr (std::is_base_of_v<torch::nn::Module, Value>) {
      torch::serialize::OutputArchive archive;
      value.save(archive);
      archive.save_to(sink);
    } else {
      torch::save(value, sink);
    }
  });
}

// Several things as one atomic blob: write the model, the optimizer and the step into the archive, each under its key.
inline void save(torch::serialize::OutputArchive& archive, const std::string& url, const Client& client = {}) {
  detail::save_atomically(url, client, [&archive](const auto& sink) { archive.save_to(sink); });
}

// Loads what torch::load takes. A failed read throws aztorch::Error and leaves the value as it was; a damaged file
// throws c10::Error, as torch::load does.
template <typename Value>
void load(Value&& value, const std::string& url, const Client& client = {}) {
  detail::load_or_explain(url, client, [&value](const auto& read, const auto& size) {
    if constexpr (std::is_base_of_v<torch::nn::Module, std::remove_reference_t<Value>>) {
      torch::serialize::InputArchive archive;
      archive.load_from(read, size);
      value.load(archive);
    } else {
      torch::load(value, read, size);
    }
  });
}

inline void load(torch::serialize::InputArchive& archive, const std::string& url, const Client& client = {}) {
  detail::load_or_explain(url, client,
                          [&archive](const auto& read, const auto& size) { archive.load_from(read, size); });
}

// A TorchScript module, as torch.jit.save in Python or Module::save in C++ wrote it.
inline torch::jit::Module jit_load(const std::string& url, const Client& client = {}) {
  const auto blob = std::make_shared<detail::BlobAdapter>(url, client);
  try {
    return torch::jit::load(blob);
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {
    detail::explain_failed_load(blob);
    throw;
  }
}

}  // namespace aztorch
