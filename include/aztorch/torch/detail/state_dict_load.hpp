// Reads a state_dict file into a module.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/Storage.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/nn/module.h>

#include "../../client.hpp"
#include "../../detail/state_dict_pickle.hpp"
#include "../../error.hpp"
#include "../../incompatible_keys.hpp"
#include "blob_adapter.hpp"
#include "module_tensors.hpp"
#include "state_dict_comparison.hpp"
#include "torch_file.hpp"

namespace aztorch::detail {

/// Storages by the name of their record.
using StorageMap = std::map<std::string, c10::Storage, std::less<>>;

/// Reads the storages that the assignments need. Throws PickleError for a missing or short record; c10::Error.
inline StorageMap read_storages(caffe2::serialize::PyTorchStreamReader& file,
                                const std::vector<Assignment>& assignments) {
  constexpr std::string_view kFolder = "data/";
  std::map<std::string_view, std::uint64_t> wanted;
  for (const auto& assignment : assignments) {
    auto& size = wanted[assignment.source.storage];
    size = std::max(size, assignment.source.storage_bytes);
  }
  StorageMap storages;
  // getAllRecords() has the order of the file, so the blob is read from front to back.
  for (const auto& record : file.getAllRecords()) {
    if (record.rfind(kFolder, 0) != 0) continue;
    const auto found = wanted.find(std::string_view(record).substr(kFolder.size()));
    if (found == wanted.end()) continue;
    auto [data, size] = file.getRecord(record);
    if (size < found->second) throw PickleError("the record " + Pickle::printable(record) + " is too short");
    storages.emplace(std::string(found->first), c10::Storage(c10::Storage::use_byte_size_t(), size, std::move(data)));
  }
  for (const auto& entry : wanted) {
    if (storages.find(entry.first) == storages.end()) {
      throw PickleError("the record data/" + Pickle::printable(entry.first) + " is missing");
    }
  }
  return storages;
}

/// The tensor that `view` describes, in the memory of `storage`.
inline at::Tensor tensor_from_view(const c10::Storage& storage, const TensorView& view) {
  at::Tensor tensor = at::empty({0}, at::TensorOptions().dtype(scalar_type(view.dtype)));
  tensor.set_(storage, view.offset, view.sizes, view.strides);
  if (view.conjugate) tensor._set_conj(true);
  if (view.negative) tensor._set_neg(true);
  return tensor;
}

/// Throws unless the file was written by Python's torch.save, with this machine's byte order.
inline void require_python_file(caffe2::serialize::PyTorchStreamReader& file, const BlobAdapter& blob) {
  const TorchFile kind = detect_torch_file(file);
  if (kind == TorchFile::archive) {
    throw Error(AZT_STATUS_INVALID_ARGUMENT, blob.url() + " was written by torch::save in C++ or is TorchScript, not a "
                                                          "state_dict: use aztorch::load or aztorch::jit_load");
  }
  if (kind == TorchFile::unknown) throw PickleError("it is a zip file without data.pkl");
  if (!file.hasRecord("byteorder")) return;
  const auto [data, size] = file.getRecord("byteorder");
  const std::string_view order(static_cast<const char*>(data.get()), size);
  if (order != (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? "little" : "big")) {
    throw UnsupportedPickle("it has the byte order \"" + Pickle::printable(order) + "\", not this machine's");
  }
}

/// A file that has been read completely. All errors of the file and the network occur before this exists.
struct PreparedLoad {
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;  // target in the module, source
  IncompatibleKeys keys;
};

/// Reads the file: the pickle, the comparison with the module, then the storages. Throws Error, PickleError,
/// c10::Error.
inline PreparedLoad prepare_load(const std::shared_ptr<BlobAdapter>& blob, const torch::nn::Module& module,
                                 bool strict) {
  caffe2::serialize::PyTorchStreamReader file(blob);
  require_python_file(file, *blob);
  const auto [data, size] = file.getRecord("data.pkl");
  const StateDictPickle pickle(std::string_view(static_cast<const char*>(data.get()), size));
  StateDictComparison comparison(pickle, named_tensors(module));
  const std::string mismatch = comparison.mismatch_message(strict);
  if (!mismatch.empty()) {
    throw Error(AZT_STATUS_INVALID_ARGUMENT, blob->url() + " does not fit the module: " + mismatch);
  }
  const StorageMap storages = read_storages(file, comparison.assignments());
  PreparedLoad prepared{{}, std::move(comparison.keys())};
  for (const auto& [target, source] : comparison.assignments()) {
    prepared.copies.emplace_back(target, tensor_from_view(storages.find(source.storage)->second, source));
  }
  return prepared;
}

/// Opens and reads the file. Throws Error.
inline PreparedLoad prepare_load(const torch::nn::Module& module, const std::string& url, bool strict,
                                 const Client& client) {
  const auto blob = std::make_shared<BlobAdapter>(url, client);
  try {
    return prepare_load(blob, module, strict);
  } catch (const UnsupportedPickle& error) {
    throw Error(AZT_STATUS_UNSUPPORTED, blob->url() + ": " + error.what());
  } catch (const PickleError& error) {
    throw Error(AZT_STATUS_CORRUPT, blob->url() + ": " + error.what());
  } catch (const c10::Error& error) {
    if (detect_legacy_file(*blob) == TorchFile::legacy_python) throw_legacy_file(*blob);
    throw Error(AZT_STATUS_CORRUPT, blob->url() + " cannot be read as a torch file: " + one_line(error));
  }
}

inline IncompatibleKeys load_state_dict(const torch::nn::Module& module, const std::string& url, bool strict,
                                        const Client& client) {
  PreparedLoad prepared = prepare_load(module, url, strict, client);
  const at::NoGradGuard no_grad;
  for (auto& [target, source] : prepared.copies) {
    target.copy_(source);
    source.reset();  // frees its storage before the rest is copied
  }
  return std::move(prepared.keys);
}

}  // namespace aztorch::detail
