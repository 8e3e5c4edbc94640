// The kinds of files that torch writes: how to detect them, and errors with advice when a file has the wrong kind.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>

#include "../../error.hpp"
#include "blob_adapter.hpp"

namespace aztorch::detail {

enum class TorchFile {
  archive,        // written by torch::save in C++, or TorchScript
  python,         // written by torch.save in Python: data.pkl is a pickle of Python objects
  legacy_python,  // written by torch.save in Python before torch 1.6: not a zip file
  unknown,
};

/// The kind of a zip file, by the records in it.
inline TorchFile detect_torch_file(caffe2::serialize::PyTorchStreamReader& reader) {
  if (reader.hasRecord("constants.pkl")) return TorchFile::archive;
  return reader.hasRecord("data.pkl") ? TorchFile::python : TorchFile::unknown;
}

/// The kind of a file that LibTorch cannot open as a zip file, by its first bytes: legacy_python or unknown. Throws
/// Error for a failed read.
inline TorchFile detect_legacy_file(const BlobAdapter& blob) {
  std::array<char, 512> start{};
  const std::size_t count = blob.read(0, start.data(), start.size());
  const bool pickle = count >= 2 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5;
  const bool tar = count == start.size() && std::string(&start[257], 5) == "ustar";
  return pickle || tar ? TorchFile::legacy_python : TorchFile::unknown;
}

/// The message of a LibTorch exception as one line, without its backtrace.
inline std::string one_line(const c10::Error& error) {
  std::string text = error.what_without_backtrace();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

/// Throws AZT_STATUS_UNSUPPORTED for a legacy_python file, with advice.
[[noreturn]] inline void throw_legacy_file(const BlobAdapter& blob) {
  throw Error(AZT_STATUS_UNSUPPORTED,
              blob.url() + " is in torch.save's old format, from before torch 1.6 or with "
                           "_use_new_zipfile_serialization=False: load it in Python and save it again with torch.save");
}

/// Called when LibTorch cannot load a blob. Throws an Error with advice when Python's torch.save wrote the blob;
/// otherwise returns, and the caller throws LibTorch's own error. Throws Error for a failed read, too.
inline void throw_if_python_file(const std::shared_ptr<BlobAdapter>& blob) {
  TorchFile kind = TorchFile::unknown;
  try {
    caffe2::serialize::PyTorchStreamReader reader(blob);
    kind = detect_torch_file(reader);
  } catch (const c10::Error&) {
    kind = detect_legacy_file(*blob);
  }
  if (kind == TorchFile::legacy_python) throw_legacy_file(*blob);
  if (kind == TorchFile::python) {
    throw Error(AZT_STATUS_INVALID_ARGUMENT,
                blob->url() + " was written by Python's torch.save, not by torch::save or torch.jit.save: if it holds "
                              "a state_dict, use aztorch::load_state_dict");
  }
}

}  // namespace aztorch::detail
