// Trains on images in tar archives: a few large blobs instead of many small ones, and random access to each image.
//
//   train_map fill --local DIR             (or any files of your own)
//   tar --create --file shard-0.tar DIR    (any number of shards)
//   train_tar upload CONTAINER_URL shard-*.tar
//   train_tar train CONTAINER_URL
//
// The first training indexes the archives with ranged reads and saves the index as a manifest, which later trainings
// load with a single request. Options and their defaults: --prefix shards/ --epochs 5 --batch 32 --workers 4 --seed 1
#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <aztorch/torch.hpp>

#include "images.hpp"
#include "program.hpp"
#include "progress.hpp"

namespace {

using torch::data::Example;
using torch::data::transforms::Stack;

// ---- the part that a program needs ----

aztorch::Dataset images_in_tars(const std::string& container_url, const std::string& prefix) {
  const std::string manifest_url = program::blob_url(container_url, prefix + "manifest");
  if (aztorch::exists(manifest_url)) return aztorch::Dataset::from_manifest(manifest_url);

  std::vector<std::string> tars;
  const auto blobs = aztorch::Dataset::list(container_url, prefix);
  for (std::size_t i = 0; i < blobs.size(); ++i) {
    const std::string name = blobs.blob_name(i);
    if (std::filesystem::path(name).extension() == ".tar") tars.push_back(program::blob_url(container_url, name));
  }
  const auto images = aztorch::Dataset::from_tars(tars);
  images.save_manifest(manifest_url);
  return images;
}

void train(const std::string& container_url, const program::Arguments& arguments) {
  const aztorch::BlobDataset<Example<>> dataset(
      images_in_tars(container_url, arguments.text("prefix")),
      [](aztorch::Sample&& sample) { return images::decode(aztorch::to_tensor(std::move(sample))); });
  const aztorch::PrefetchSampler sampler(dataset);

  const std::size_t size = program::require_samples(dataset.size().value());
  images::Net net;
  auto optimizer = images::make_optimizer(net);
  const std::size_t batch_size = arguments.number("batch");
  auto loader = torch::data::make_data_loader(
      aztorch::BlobDataset<Example<>>(dataset).map(Stack<>()), sampler,
      torch::data::DataLoaderOptions(batch_size).workers(arguments.number("workers")));
  for (std::size_t epoch = 0; epoch < arguments.number("epochs"); ++epoch) {
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

// ---- the rest of the demonstration ----

void run(const program::Arguments& arguments) {
  const auto& words = arguments.words();
  if (words.size() < 2) throw program::UsageError("a command and a container are needed");
  torch::manual_seed(arguments.number("seed"));
  if (words[0] == "train" && words.size() == 2) return train(words[1], arguments);
  if (words[0] != "upload") throw program::UsageError("no command is called " + words[0]);
  for (std::size_t i = 2; i < words.size(); ++i) {
    const std::string name = std::filesystem::path(words[i]).filename();
    aztorch::upload(words[i], program::blob_url(words[1], arguments.text("prefix") + name));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* usage = "usage: train_tar train CONTAINER_URL | upload CONTAINER_URL FILE… [OPTIONS]\n";
  return program::run("train_tar", usage, [&] {
    run({argc,
         argv,
         {{"prefix", "shards/"}, {"epochs", "5"}, {"batch", "32"}, {"workers", "4"}, {"seed", "1"}}});
  });
}
