// A dataset of local files, in the order in which a container lists them. The tests compare it with the one of blobs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <aztorch/torch.hpp>

#include <torch/torch.h>

namespace files {

inline torch::Tensor read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const auto bytes = torch::empty({static_cast<std::int64_t>(std::filesystem::file_size(path))}, torch::kUInt8);
  if (!in.read(static_cast<char*>(bytes.data_ptr()), static_cast<std::streamsize>(bytes.nbytes()))) {
    throw std::runtime_error("cannot read " + path.string());
  }
  return bytes;
}

// The files of a directory, in the order of their names. Function makes an Example from (bytes, file name, index).
template <typename Example, typename Function>
class FileDataset : public torch::data::datasets::Dataset<FileDataset<Example, Function>, Example> {
 public:
  FileDataset(const std::string& directory, Function function) : function_(std::move(function)) {
    for (const auto& entry : std::filesystem::directory_iterator(directory)) paths_.push_back(entry.path());
    std::sort(paths_.begin(), paths_.end());
  }

  Example get(std::size_t index) override {
    return function_(read(paths_.at(index)), paths_[index].filename().string(), index);
  }
  aztorch::Optional<std::size_t> size() const override { return paths_.size(); }

 private:
  std::vector<std::filesystem::path> paths_;
  Function function_;
};

template <typename Example, typename Function>
FileDataset<Example, Function> dataset(const std::string& directory, Function function) {
  return {directory, std::move(function)};
}

}  // namespace files
