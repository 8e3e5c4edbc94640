// How load_state_dict reads: the pickle, then a comparison of all names and shapes, then the storages that are needed in
// the order of the file, and only then a change of the module.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/nn/module.h>

#include "../client.hpp"
#include "../error.hpp"
#include "state_dict_tensors.hpp"
#include "torch_blob.hpp"

namespace aztorch {

// As Python's load_state_dict returns it.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;     // in the module, not in the file
  std::vector<std::string> unexpected_keys;  // in the file, not in the module
};

namespace detail {

// One tensor of the module, and what the file has for it.
struct Assignment {
  at::Tensor target;
  TensorView source;
};

class StateDictComparison {
 public:
  StateDictComparison(const StateDictPickle& file, const NamedTensors& module) {
    for (const auto& [name, target] : module) compare(file, name, target);
    std::set<std::string_view> known;
    for (const auto& tensor : module) known.insert(tensor.first);
    for (const auto& [name, value] : file.entries()) {
      if (known.count(name) != 0) continue;
      keys_.unexpected_keys.push_back(Pickle::printable(name));
      if (file.is_dict(value)) nested_.push_back(Pickle::printable(name));
    }
  }

  std::vector<Assignment>& assignments() noexcept { return assignments_; }
  IncompatibleKeys& keys() noexcept { return keys_; }

  // Empty when the file fits.
  std::string complaint(bool strict) const {
    std::string text;
    if (strict) add_list(text, "missing in the file", keys_.missing_keys);
    if (strict) add_list(text, "unknown to the module", keys_.unexpected_keys);
    add_list(text, "that do not fit", misfits_);
    return text.empty() ? text : text + hint();
  }

 private:
  void compare(const StateDictPickle& file, const std::string& name, const at::Tensor& target) {
    const auto found = file.entries().find(name);
    if (found == file.entries().end()) {
      if (!may_be_missing(file, name)) keys_.missing_keys.push_back(name);
    } else if (!file.is_tensor(found->second)) {
      misfits_.push_back(name + " (not a tensor in the file)");
    } else {
      TensorView view = file.tensor(found->second);
      // Python takes the one-element vectors of very old files for scalars.
      if (target.dim() == 0 && view.sizes == std::vector<std::int64_t>{1}) {
        view.sizes.clear();
        view.strides.clear();
      }
      if (target.sizes() != view.sizes) {
        misfits_.push_back(name + " (" + shape(view.sizes) + " in the file, " + shape(target.sizes()) +
                           " in the module)");
      }
      assignments_.push_back({target, std::move(view)});
    }
  }

  // Batch norms had no such counter before their version 2: Python leaves it as it is, also with `strict`.
  static bool may_be_missing(const StateDictPickle& file, std::string_view name) {
    constexpr std::string_view kCounter = "num_batches_tracked";
    const auto dot = name.rfind('.');
    const auto module = dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
    const auto last = dot == std::string_view::npos ? name : name.substr(dot + 1);
    return last == kCounter && file.version_of(module) < 2;
  }

  static std::string shape(c10::IntArrayRef sizes) {
    std::string text = "[";
    for (const std::int64_t size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + "]";
  }

  static void add_list(std::string& text, const char* what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    text += text.empty() ? "" : "; ";
    text += std::to_string(names.size()) + (names.size() == 1 ? " key " : " keys ") + what + ": ";
    for (const auto& name : names) text += (&name == names.data() ? "" : ", ") + name;
  }

  std::string hint() const {
    if (!assignments_.empty()) return "";
    if (!nested_.empty()) {
      return "; the file is a dict around other dicts: save the one that is the state_dict, perhaps \"" +
             nested_.front() + "\", by itself";
    }
    const auto& names = keys_.unexpected_keys;
    const bool wrapped = !names.empty() && std::all_of(names.begin(), names.end(), [](const std::string& name) {
      return name.rfind("module.", 0) == 0;
    });
    return wrapped ? "; the file is of a DataParallel model: save model.module.state_dict()" : "";
  }

  std::vector<Assignment> assignments_;
  IncompatibleKeys keys_;
  std::vector<std::string> misfits_;
  std::vector<std::string> nested_;
};

using StorageMap = std::map<std::string, c10::Storage, std::less<>>;

inline StorageMap read_storages(caffe2::serialize::PyTorchStreamReader& file,
                                const std::vector<Assignment>& assignments) {
  constexpr std::string_view kFolder = "data/";
  std::map<std::string_view, std::uint64_t> wanted;
  for (const auto& assignment : assignments) {
    auto& size = wanted[assignment.source.storage];
    size = std::max(size, assignment.source.storage_bytes);
  }
  StorageMap storages;
  // getAllRecords() has the order of the file: read so, the blob is read from front to back.
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

inline at::Tensor tensor_over(const c10::Storage& storage, const TensorView& view) {
  at::Tensor tensor = at::empty({0}, at::TensorOptions().dtype(scalar_type(view.dtype)));
  tensor.set_(storage, view.offset, view.sizes, view.strides);
  if (view.conjugate) tensor._set_conj(true);
  if (view.negative) tensor._set_neg(true);
  return tensor;
}

inline void require_python_file(caffe2::serialize::PyTorchStreamReader& file, const BlobAdapter& blob) {
  const TorchFile kind = kind_of(file);
  if (kind == TorchFile::archive) {
    throw Error(AZT_STATUS_INVALID_ARGUMENT, blob.url() + " was written by torch::save in C++ or is TorchScript, not a "
                                                          "state_dict: use aztorch::load or aztorch::jit_load");
  }
  if (kind == TorchFile::unknown) throw PickleError("it is a zip file without data.pkl");
  if (!file.hasRecord("byteorder")) return;
  const auto [data, size] = file.getRecord("byteorder");
  const std::string_view order(static_cast<const char*>(data.get()), size);
  if (order != (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? "little" : "big")) {
    throw PickleRefused("it has the byte order \"" + Pickle::printable(order) + "\", not this machine's");
  }
}

// Everything that can go wrong with the file or the network goes wrong here, with the module unchanged.
struct PreparedLoad {
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;  // to, from
  IncompatibleKeys keys;
};

inline PreparedLoad prepare_load(const std::shared_ptr<BlobAdapter>& blob, const torch::nn::Module& module,
                                 bool strict) {
  caffe2::serialize::PyTorchStreamReader file(blob);
  require_python_file(file, *blob);
  const auto [data, size] = file.getRecord("data.pkl");
  const StateDictPickle pickle(std::string_view(static_cast<const char*>(data.get()), size));
  StateDictComparison comparison(pickle, state_of(module));
  const std::string complaint = comparison.complaint(strict);
  if (!complaint.empty()) {
    throw Error(AZT_STATUS_INVALID_ARGUMENT, blob->url() + " does not fit the module: " + complaint);
  }
  const StorageMap storages = read_storages(file, comparison.assignments());
  PreparedLoad prepared{{}, std::move(comparison.keys())};
  for (const auto& [target, source] : comparison.assignments()) {
    prepared.copies.emplace_back(target, tensor_over(storages.find(source.storage)->second, source));
  }
  return prepared;
}

inline PreparedLoad prepare_load(const torch::nn::Module& module, const std::string& url, bool strict,
                                 const Client& client) {
  const auto blob = std::make_shared<BlobAdapter>(url, client);
  try {
    return prepare_load(blob, module, strict);
  } catch (const PickleRefused& error) {
    throw Error(AZT_STATUS_UNSUPPORTED, blob->url() + ": " + error.what());
  } catch (const PickleError& error) {
    throw Error(AZT_STATUS_CORRUPT, blob->url() + ": " + error.what());
  } catch (const c10::Error& error) {
    if (kind_of_start(*blob) == TorchFile::old_python) refuse_old_python(*blob);
    throw Error(AZT_STATUS_CORRUPT, blob->url() + " cannot be read as a torch file: " + one_line(error));
  }
}

inline IncompatibleKeys load_state_dict(const torch::nn::Module& module, const std::string& url, bool strict,
                                        const Client& client) {
  PreparedLoad prepared = prepare_load(module, url, strict, client);
  const at::NoGradGuard no_grad;
  for (auto& [target, source] : prepared.copies) {
    target.copy_(source);
    source.reset();  // its storage may be freed now, before the rest is copied
  }
  return std::move(prepared.keys);
}

}  // namespace detail
}  // namespace aztorch
