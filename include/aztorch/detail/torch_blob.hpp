// A blob as LibTorch reads it, and what sort of torch file it holds.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>

#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/nn/module.h>

#include "../blob.hpp"

namespace aztorch::detail {

// LibTorch reads each tensor's bytes with one call, straight into the tensor's memory, and small things round it. It
// seeks and reads rather than using read_at, because only read() keeps what lies round a small read for the next.
class BlobAdapter final : public caffe2::serialize::ReadAdapterInterface {
 public:
  BlobAdapter(const std::string& url, const Client& client) : reader_(url, client) {}

  std::size_t size() const override { return static_cast<std::size_t>(reader_.size()); }

  std::size_t read(std::uint64_t position, void* buffer, std::size_t length, const char* = "") const override {
    if (position >= reader_.size()) return 0;  // LibTorch counts back from the end, past 0 in a very short file
    const std::lock_guard<std::mutex> lock(mutex_);
    reader_.seek(static_cast<std::int64_t>(position));
    return reader_.read(buffer, length);
  }

  std::string url() const { return reader_.url(); }

 private:
  mutable std::mutex mutex_;
  mutable BlobReader reader_;
};

enum class TorchFile {
  archive,     // of torch::save in C++, or TorchScript
  python,      // of torch.save in Python: data.pkl is a pickle of Python objects
  old_python,  // the same before torch 1.6: not a zip file
  unknown,
};

inline TorchFile kind_of(caffe2::serialize::PyTorchStreamReader& reader) {
  if (reader.hasRecord("constants.pkl")) return TorchFile::archive;
  return reader.hasRecord("data.pkl") ? TorchFile::python : TorchFile::unknown;
}

// For a file that is no zip file, or a damaged one.
inline TorchFile kind_of_start(const BlobAdapter& blob) {
  std::array<char, 512> start{};
  const std::size_t count = blob.read(0, start.data(), start.size());
  const bool pickle = count >= 2 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5;
  const bool tar = count == start.size() && std::string(&start[257], 5) == "ustar";
  return pickle || tar ? TorchFile::old_python : TorchFile::unknown;
}

// The text of a LibTorch exception on one line, without its backtrace.
inline std::string one_line(const c10::Error& error) {
  std::string text = error.what_without_backtrace();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

[[noreturn]] inline void refuse_old_python(const BlobAdapter& blob) {
  throw Error(AZT_STATUS_UNSUPPORTED,
              blob.url() + " is in torch.save's old format, from before torch 1.6 or with "
                           "_use_new_zipfile_serialization=False: load it in Python and save it again with torch.save");
}

// Throws an error that says what to do when the blob is a torch file of another sort; else returns, for the caller to
// let LibTorch's own error pass.
inline void explain_failed_load(const std::shared_ptr<BlobAdapter>& blob) {
  TorchFile kind = TorchFile::unknown;
  try {
    caffe2::serialize::PyTorchStreamReader reader(blob);
    kind = kind_of(reader);
  } catch (const c10::Error&) {
    kind = kind_of_start(*blob);
  }
  if (kind == TorchFile::old_python) refuse_old_python(*blob);
  if (kind == TorchFile::python) {
    throw Error(AZT_STATUS_INVALID_ARGUMENT,
                blob->url() + " was written by Python's torch.save, not by torch::save or torch.jit.save: if it holds a "
                              "state_dict, use aztorch::load_state_dict");
  }
}

// The module in a reference, a shared_ptr or a ModuleHolder.
template <typename Value>
auto& module_in(Value& value) {
  if constexpr (std::is_base_of_v<torch::nn::Module, std::remove_cv_t<Value>>) {
    return value;
  } else {
    if (!value) throw Error(AZT_STATUS_INVALID_ARGUMENT, "the module is empty");
    return *value;
  }
}

}  // namespace aztorch::detail
