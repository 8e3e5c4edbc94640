// Trains on a container as a stream: listed while it is read, shuffled, and resumed in the middle of an epoch. For
// containers with too many blobs to list before the first step. `train_map fill` writes the images.
//
//   train_iterable CONTAINER_URL
//
// Model, optimizer and the position in the stream are saved as one blob, NAME.checkpoint, every --save-every steps.
// When that blob exists, training continues from it. The position counts the samples that the loop has consumed, not
// those that the workers have fetched. Options and their defaults: --run NAME (run) --prefix images/ --epochs 2 --batch
// 32 --workers 4 --seed 1 --shuffle 10000 (names in the buffer) --save-every 20 --log FILE (the names that each step
// consumed) --pace MS (a pause after each step, so that a test can kill the training in the middle)
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include <aztorch/torch.hpp>

#include "images.hpp"
#include "program.hpp"
#include "progress.hpp"

namespace {

// ---- the part that a program needs ----

using Dataset = aztorch::IterableBlobDataset<images::Image>;

Dataset images_in(const std::string& container_url, const std::string& prefix, std::size_t shuffle,
                  std::uint64_t seed) {
  const auto decode = [](aztorch::Sample&& sample) {
    images::Image image{{}, sample.blob_name(), sample.position()};  // the position is for mark_consumed()
    image.example = images::decode(aztorch::to_tensor(std::move(sample)));
    return image;
  };
  return Dataset::from_container_url(container_url, prefix, decode, {},
                                     aztorch::IterableOptions().shuffle(shuffle, seed));
}

struct Training {
  images::Net net;
  torch::optim::Adam optimizer = images::make_optimizer(net);
  std::size_t epoch = 0;
  images::Result sum;  // of this epoch so far
};

void save_checkpoint(const Training& training, const Dataset& dataset, const std::string& url) {
  torch::serialize::OutputArchive archive, weights, moments, position;
  training.net->save(weights);
  training.optimizer.save(moments);
  dataset.save(position);
  archive.write("model", weights);
  archive.write("optimizer", moments);
  archive.write("place", position);
  archive.write("epoch", c10::IValue(static_cast<std::int64_t>(training.epoch)));
  archive.write("sum", training.sum.to_tensor());
  aztorch::save(archive, url);
}

// Whether there is a checkpoint.
bool load_checkpoint(Training& training, Dataset& dataset, const std::string& url) {
  torch::serialize::InputArchive archive, weights, moments, position;
  try {
    aztorch::load(archive, url);
  } catch (const aztorch::Error& error) {
    if (error.status() == AZT_STATUS_NOT_FOUND) return false;
    throw;
  }
  archive.read("model", weights);
  archive.read("optimizer", moments);
  archive.read("place", position);
  training.net->load(weights);
  training.optimizer.load(moments);
  dataset.load(position);
  c10::IValue epoch;
  torch::Tensor sum;
  archive.read("epoch", epoch);
  archive.read("sum", sum);
  training.epoch = static_cast<std::size_t>(epoch.toInt());
  training.sum = images::Result::from_tensor(sum);
  return true;
}

void train(Training& training, Dataset dataset, const std::string& checkpoint_url,
           const program::Arguments& arguments) {
  const std::size_t save_every = arguments.number("save-every");
  const std::chrono::milliseconds pace(arguments.number("pace"));
  std::ofstream log;
  if (arguments.has("log")) log.open(arguments.text("log"));
  std::size_t step = 0;

  // The loader takes a copy; all copies share one position in the stream.
  auto loader = torch::data::make_data_loader(
      Dataset(dataset).map(images::StackImages()),
      torch::data::DataLoaderOptions(arguments.number("batch")).workers(arguments.number("workers")));
  for (; training.epoch < arguments.number("epochs"); ++training.epoch) {
    Steps bar(0);
    for (auto& batch : *loader) {
      training.sum += images::train_step(training.net, training.optimizer, batch.data, batch.target);
      dataset.mark_consumed(batch);
      if (log.is_open()) {
        log << training.epoch;
        for (const auto& name : batch.names) log << ' ' << name;
        log << std::endl;
      }
      if (++step % save_every == 0) save_checkpoint(training, dataset, checkpoint_url);
      bar.next(training.sum.loss / double(training.sum.samples));
      std::this_thread::sleep_for(pace);
    }
    bar.erase();
    program::require_samples(static_cast<std::size_t>(training.sum.samples));
    images::print_epoch(training.epoch, training.sum);
    training.sum = {};
  }
}

void run(const program::Arguments& arguments) {
  if (arguments.words().size() != 1) throw program::UsageError("a container is needed");
  if (arguments.number("save-every") == 0) throw program::UsageError("--save-every must not be 0");
  const std::string& container_url = arguments.words()[0];
  const std::string checkpoint_url = program::blob_url(container_url, arguments.text("run") + ".checkpoint");
  const std::uint64_t seed = arguments.number("seed");
  torch::manual_seed(seed);
  Training training;
  auto dataset = images_in(container_url, arguments.text("prefix"), arguments.number("shuffle"), seed);
  if (load_checkpoint(training, dataset, checkpoint_url)) {
    std::printf("resumed in epoch %zu after %lld samples\n", training.epoch,
                static_cast<long long>(training.sum.samples));
    std::fflush(stdout);
  }
  train(training, dataset, checkpoint_url, arguments);
}

}  // namespace

int main(int argc, char** argv) {
  return program::run("train_iterable", "usage: train_iterable CONTAINER_URL [OPTIONS]\n", [&] {
    run({argc,
         argv,
         {{"run", "run"},
          {"prefix", "images/"},
          {"epochs", "2"},
          {"batch", "32"},
          {"workers", "4"},
          {"seed", "1"},
          {"shuffle", "10000"},
          {"save-every", "20"},
          {"log", ""},
          {"pace", "0"}}});
  });
}
