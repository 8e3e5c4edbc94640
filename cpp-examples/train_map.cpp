// Trains a small network on images in a container: one blob per sample, in shuffled order, fetched ahead of the
// workers.
//
//   train_map fill CONTAINER_URL     writes the images
//   train_map train CONTAINER_URL    trains on them, and prints the loss of each epoch, also with all its bits
//   train_map remove CONTAINER_URL   deletes the images
//
// CONTAINER_URL is https://ACCOUNT.blob.core.windows.net/CONTAINER?SAS. With `--local DIR` instead, `fill` and `train`
// use local files; the losses are the same, bit for bit. Options and their defaults: --prefix images/ --count 256
// --epochs 5 --batch 32 --workers 4 --seed 1
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include <aztorch/torch.hpp>

#include "files.hpp"
#include "images.hpp"
#include "program.hpp"
#include "progress.hpp"

namespace {

using torch::data::Example;
using torch::data::transforms::Stack;

// ---- the part that a program needs ----

aztorch::BlobDataset<Example<>> images_in(const std::string& container_url, const std::string& prefix) {
  return aztorch::BlobDataset<Example<>>::from_container_url(container_url, prefix, [](aztorch::Sample&& sample) {
    return images::decode(aztorch::to_tensor(std::move(sample)));  // without a copy of the bytes
  });
}

template <typename Dataset, typename Sampler>
void train(const Dataset& dataset, const Sampler& sampler, std::size_t batch_size, std::size_t workers,
           std::size_t epochs) {
  const std::size_t size = program::require_samples(dataset.size().value());
  images::Net net;
  auto optimizer = images::make_optimizer(net);
  auto loader = torch::data::make_data_loader(Dataset(dataset).map(Stack<>()), sampler,
                                              torch::data::DataLoaderOptions(batch_size).workers(workers));
  for (std::size_t epoch = 0; epoch < epochs; ++epoch) {
    Steps bar((size + batch_size - 1) / batch_size);
    images::Result sum;
    for (auto& batch : *loader) {
      sum += images::train_step(net, optimizer, batch.data, batch.target);
      bar.next(sum.loss / double(sum.samples));
    }
    bar.erase();
    images::print_epoch(epoch, sum);
  }
}

void train_on_blobs(const std::string& container_url, const program::Arguments& arguments) {
  const auto dataset = images_in(container_url, arguments.text("prefix"));
  train(dataset, aztorch::PrefetchSampler(dataset), arguments.number("batch"), arguments.number("workers"),
        arguments.number("epochs"));
}

// ---- the rest of the demonstration ----

void train_on_files(const std::string& directory, const program::Arguments& arguments) {
  const auto dataset = files::dataset<Example<>>(
      directory, [](const torch::Tensor& bytes, const std::string&, std::size_t) { return images::decode(bytes); });
  const torch::data::samplers::RandomSampler sampler(static_cast<std::int64_t>(dataset.size().value()));
  train(dataset, sampler, arguments.number("batch"), arguments.number("workers"), arguments.number("epochs"));
}

void fill_container(const std::string& container_url, const std::string& prefix, std::size_t count) {
  for (std::size_t number = 0; number < count; ++number) {
    const auto bytes = images::make(number);
    auto blob = aztorch::BlobWriter::open_in(container_url, prefix + images::name(number));
    blob.write(bytes.data(), bytes.size());
    blob.close();
  }
}

void fill_directory(const std::filesystem::path& directory, std::size_t count) {
  std::filesystem::create_directories(directory);
  for (std::size_t number = 0; number < count; ++number) {
    const auto bytes = images::make(number);
    std::ofstream out(directory / images::name(number), std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) throw std::runtime_error("cannot write to " + directory.string());
  }
}

void remove_from(const std::string& container_url, const std::string& prefix) {
  const auto blobs = aztorch::Dataset::list(container_url, prefix);
  for (std::size_t i = 0; i < blobs.size(); ++i) {
    aztorch::remove(program::blob_url(container_url, blobs.blob_name(i)));
  }
}

void run(const program::Arguments& arguments) {
  const auto& words = arguments.words();
  const bool local = arguments.has("local");
  if (words.size() != (local ? 1 : 2)) throw program::UsageError("a command and a container or --local are needed");
  const std::string where = local ? arguments.text("local") : words[1];
  torch::manual_seed(arguments.number("seed"));
  if (words[0] == "train") return local ? train_on_files(where, arguments) : train_on_blobs(where, arguments);
  if (words[0] == "fill" && local) return fill_directory(where, arguments.number("count"));
  if (words[0] == "fill") return fill_container(where, arguments.text("prefix"), arguments.number("count"));
  if (words[0] == "remove" && !local) return remove_from(where, arguments.text("prefix"));
  throw program::UsageError("no command is called " + words[0] + (local ? " with --local" : ""));
}

}  // namespace

int main(int argc, char** argv) {
  return program::run("train_map", "usage: train_map fill|train|remove CONTAINER_URL|--local DIR [OPTIONS]\n", [&] {
    run({argc,
         argv,
         {{"local", ""},
          {"prefix", "images/"},
          {"count", "256"},
          {"epochs", "5"},
          {"batch", "32"},
          {"workers", "4"},
          {"seed", "1"}}});
  });
}
