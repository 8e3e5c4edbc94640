// Writes a module's state_dict file: the pickle, then one record for each storage, as Python does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/nn/module.h>

#include "../../client.hpp"
#include "../../detail/deferred_writer.hpp"
#include "../../detail/state_dict_pickle_writer.hpp"
#include "../../detail/tensor_view.hpp"
#include "../../error.hpp"
#include "module_tensors.hpp"

namespace aztorch::detail {

/// The storages of the tensors to be written. Tensors that share a storage share a record, so tied weights are written
/// once and stay tied in Python.
class StorageRecords {
 public:
  /// The name of the record of the tensor's storage.
  const std::string& name_for(const at::Tensor& tensor) {
    const auto key = std::make_pair(tensor.storage().unsafeGetStorageImpl(), tensor.scalar_type());
    const auto found = names_.find(key);
    if (found != names_.end()) return found->second;
    tensors_.push_back(tensor);
    return names_.emplace(key, std::to_string(tensors_.size() - 1)).first->second;
  }

  /// Writes all records.
  void write(caffe2::serialize::PyTorchStreamWriter& out) const {
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const at::Tensor bytes = whole_storage(tensors_[i]).cpu();
      out.writeRecord("data/" + std::to_string(i), bytes.data_ptr(), static_cast<std::size_t>(bytes.numel()));
    }
  }

 private:
  /// The tensor's whole storage, as bytes.
  static at::Tensor whole_storage(const at::Tensor& tensor) {
    const auto storage = tensor.storage();
    const auto size = static_cast<std::int64_t>(storage.nbytes());
    return at::empty({0}, tensor.options().dtype(at::kByte)).set_(storage, 0, {size}, {1});
  }

  std::map<std::pair<const c10::StorageImpl*, at::ScalarType>, std::string> names_;
  std::vector<at::Tensor> tensors_;
};

/// Saves the module's state_dict as a blob. Throws Error.
inline void save_state_dict(const torch::nn::Module& module, const std::string& url, const Client& client) {
  const at::NoGradGuard no_grad;
  DeferredWriter blob(BlobWriter(url, client));  // sends nothing yet
  StorageRecords records;
  StateDictPickleWriter pickle;
  for (const auto& [name, value] : named_tensors(module)) {
    const auto dtype = dtype_of(value.scalar_type());
    if (!dtype || value.layout() != at::kStrided || value.is_quantized()) {
      throw Error(AZT_STATUS_UNSUPPORTED, "save_state_dict to " + blob.writer().url() + ": \"" + name +
                                              "\" is not a plain dense tensor (" + value.toString() + ")");
    }
    const at::Tensor tensor = value.detach().resolve_conj().resolve_neg();
    TensorView view;
    view.storage = records.name_for(tensor);
    view.storage_bytes = tensor.storage().nbytes();
    view.dtype = *dtype;
    view.offset = tensor.storage_offset();
    view.sizes = tensor.sizes().vec();
    view.strides = tensor.strides().vec();
    pickle.add(name, view);
  }
  const std::string data = pickle.finish();

  {
    caffe2::serialize::PyTorchStreamWriter out([&blob](const void* bytes, std::size_t length) {
      blob.write(bytes, length);
      return length;
    });
    out.writeRecord("data.pkl", data.data(), data.size());
    const std::string order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? "little" : "big";
    out.writeRecord("byteorder", order.data(), order.size());
    records.write(out);
    out.writeEndOfFile();
  }
  blob.close();
}

}  // namespace aztorch::detail
