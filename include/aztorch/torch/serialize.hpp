// `save`, `load` and `jit_load`: LibTorch's own file formats, to and from a blob.
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

#include "../client.hpp"
#include "../detail/deferred_writer.hpp"
#include "detail/blob_adapter.hpp"
#include "detail/torch_file.hpp"

namespace aztorch {

namespace detail {

/// Writes a blob that is published as a whole. `write_to` gets the function through which LibTorch writes bytes. Throws
/// Error, and the exceptions of `write_to`.
template <typename WriteTo>
void save_atomically(const std::string& url, const Client& client, WriteTo write_to) {
  DeferredWriter blob(BlobWriter(url, client));
  write_to([&blob](const void* data, std::size_t length) {
    blob.write(data, length);
    return length;
  });
  blob.close();
}

/// Reads a blob. `load_from` gets the two functions through which LibTorch reads bytes and learns the size. Throws
/// Error, with advice when the blob is another kind of torch file, and the exceptions of `load_from`.
template <typename LoadFrom>
void load_with_advice(const std::string& url, const Client& client, LoadFrom load_from) {
  const auto blob = std::make_shared<BlobAdapter>(url, client);
  try {
    const auto read = [&blob](std::uint64_t position, void* buffer, std::size_t length) {
      return blob->read(position, buffer, length);
    };
    load_from(read, [&blob] { return blob->size(); });
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {
    throw_if_python_file(blob);
    throw;
  }
}

}  // namespace detail

/// Saves a value that torch::save accepts: a module (also by reference), a tensor, a std::vector of tensors, an
/// optimizer. The blob is replaced as a whole when all bytes have arrived; on failure the previous blob stays. Blocks.
/// Throws Error; c10::Error for a value that torch::save refuses.
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

/// Saves an archive as one blob: for several values, such as the model, the optimizer and the step, each written into
/// the archive under its own key. The blob is replaced as a whole; on failure the previous blob stays. Blocks.
/// Throws Error.
inline void save(torch::serialize::OutputArchive& archive, const std::string& url, const Client& client = {}) {
  detail::save_atomically(url, client, [&archive](const auto& sink) { archive.save_to(sink); });
}

/// Loads a value that torch::load accepts: a module (also by reference), a tensor, a std::vector of tensors, an
/// optimizer. Blocks. Throws Error for a failed read, and then leaves the value unchanged; c10::Error for a damaged
/// file, as torch::load does.
template <typename Value>
void load(Value&& value, const std::string& url, const Client& client = {}) {
  detail::load_with_advice(url, client, [&value](const auto& read, const auto& size) {
    if constexpr (std::is_base_of_v<torch::nn::Module, std::remove_reference_t<Value>>) {
      torch::serialize::InputArchive archive;
      archive.load_from(read, size);
      value.load(archive);
    } else {
      torch::load(value, read, size);
    }
  });
}

/// Loads an archive that save() wrote. Blocks. Throws Error for a failed read; c10::Error for a damaged file.
inline void load(torch::serialize::InputArchive& archive, const std::string& url, const Client& client = {}) {
  detail::load_with_advice(url, client,
                           [&archive](const auto& read, const auto& size) { archive.load_from(read, size); });
}

/// Loads a TorchScript module, which torch.jit.save in Python or torch::jit::Module::save in C++ wrote. Blocks. Throws
/// Error for a failed read; c10::Error for a damaged file.
inline torch::jit::Module jit_load(const std::string& url, const Client& client = {}) {
  const auto blob = std::make_shared<detail::BlobAdapter>(url, client);
  try {
    return torch::jit::load(blob);
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {
    detail::throw_if_python_file(blob);
    throw;
  }
}

}  // namespace aztorch
