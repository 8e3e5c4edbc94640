// Data-parallel training with c10d's gloo backend, on images in a container. `train_map fill` writes the images.
//
//   torchrun --no_python --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500
//       -- train_distributed CONTAINER_URL
//
// in one line, or with any other launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Rank 0 lists the
// images once, into the blob NAME.manifest, and saves NAME.checkpoint every --save-every steps. A killed run continues
// from there when it is started again, on any number of ranks. `--local DIR` trains on local files and saves nothing;
// the losses are the same, bit for bit. Options and their defaults: --run NAME (run) --prefix images/ --epochs 2
// --batch 8 (per rank) --workers 2 --seed 1 --save-every 20 --log FILE (the names that each step consumed, in
// FILE.RANK) --pace MS (a pause after each step, so that a test can kill the training in the middle)
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <aztorch/torch.hpp>

#include "files.hpp"
#include "images.hpp"
#include "process_group.hpp"
#include "program.hpp"
#include "progress.hpp"

namespace {

// ---- the part that a program needs ----

// Saves one listing for all ranks, because they must agree on the indices although blobs are added and deleted. Rank 0
// lists; the others load the manifest later. A resumed run uses the manifest of the first start.
void list_once(const Rank& me, const std::string& container_url, const std::string& prefix,
               const std::string& manifest_url) {
  if (me.rank != 0 || aztorch::exists(manifest_url)) return;
  aztorch::Dataset::list(container_url, prefix).save_manifest(manifest_url);
}

// A BlobDataset that skips blobs which were deleted after the listing. get() returns what the sampler has prefetched,
// so calling it for each index is not slower than a batch.
class ExistingImages : public torch::data::datasets::Dataset<ExistingImages, images::Image> {
 public:
  explicit ExistingImages(aztorch::Dataset blobs) : images_(std::move(blobs), [](aztorch::Sample&& sample) {
    images::Image image{{}, sample.blob_name(), sample.position()};
    image.example = images::decode(aztorch::to_tensor(std::move(sample)));
    return image;
  }) {}

  images::Image get(std::size_t index) override { return images_.get(index); }

  std::vector<images::Image> get_batch(torch::ArrayRef<std::size_t> indices) override {
    std::vector<images::Image> batch;
    for (const std::size_t index : indices) {
      try {
        batch.push_back(images_.get(index));
      } catch (const aztorch::Error& error) {
        if (error.status() != AZT_STATUS_NOT_FOUND) throw;
        std::fprintf(stderr, "deleted since it was listed: %s\n", images_.blobs().blob_name(index).c_str());
      }
    }
    return batch;
  }

  aztorch::Optional<std::size_t> size() const override { return images_.size(); }
  const aztorch::BlobDataset<images::Image>& images() const { return images_; }

 private:
  aztorch::BlobDataset<images::Image> images_;
};

// Sums the gradients and the results of a step over all ranks, in a single message. The gradients become those of the
// mean loss over all samples of the step.
images::Result all_reduce(ProcessGroup& group, images::Net& net, const images::Result& mine) {
  std::vector<torch::Tensor> parts;
  for (auto& parameter : net->parameters()) {
    // A rank without a batch adds zeros.
    if (!parameter.grad().defined()) parameter.mutable_grad() = torch::zeros_like(parameter);
    parts.push_back(parameter.grad().flatten());
  }
  parts.push_back(mine.to_tensor().to(torch::kFloat));
  torch::Tensor flat = torch::cat(parts);
  group.all_reduce_sum(flat);

  const auto all = images::Result::from_tensor(flat.slice(0, -3));
  std::int64_t offset = 0;
  for (auto& parameter : net->parameters()) {
    const auto sum = flat.slice(0, offset, offset + parameter.numel()).view_as(parameter);
    parameter.mutable_grad().copy_(sum / double(std::max<std::int64_t>(all.samples, 1)));
    offset += parameter.numel();
  }
  return all;
}

// Saves the checkpoint as one blob, which is replaced as a whole or not at all.
template <typename Sampler>
void save_checkpoint(const std::string& url, const images::Net& net, const torch::optim::Adam& optimizer,
                     const Sampler& sampler, const std::vector<std::int64_t>& cursors, const images::Result& sum) {
  torch::serialize::OutputArchive archive, weights, moments, position;
  net->save(weights);
  optimizer.save(moments);
  sampler.save(position);
  archive.write("model", weights);
  archive.write("optimizer", moments);
  archive.write("sampler", position);
  archive.write("cursors", torch::tensor(cursors));
  archive.write("sum", sum.to_tensor());
  aztorch::save(archive, url);
}

// Whether there is a checkpoint. Every rank loads it, so that all start with the same weights.
template <typename Sampler>
bool load_checkpoint(const std::string& url, images::Net& net, torch::optim::Adam& optimizer, Sampler& sampler,
                     images::Result& sum) {
  torch::serialize::InputArchive archive, weights, moments, position;
  try {
    aztorch::load(archive, url);
  } catch (const aztorch::Error& error) {
    if (error.status() == AZT_STATUS_NOT_FOUND) return false;
    throw;
  }
  archive.read("model", weights);
  archive.read("optimizer", moments);
  archive.read("sampler", position);
  net->load(weights);
  optimizer.load(moments);
  sampler.load(position);
  torch::Tensor cursors, sums;
  archive.read("cursors", cursors);
  archive.read("sum", sums);
  if (!cursors.eq(static_cast<std::int64_t>(sampler.position())).all().item<bool>()) {
    throw std::runtime_error("the ranks of the saved run had not consumed the same steps");
  }
  sum = images::Result::from_tensor(sums);
  return true;
}

struct Settings {
  std::size_t epochs, batch_size, workers, save_every;
  std::string checkpoint_url;  // empty: no checkpoints
  std::string log;
  std::chrono::milliseconds pace;
};

// Every rank takes part in every step. In the last step of an epoch some ranks may have no batch; they add zeros to the
// sum, or the others would wait forever.
template <typename Dataset, typename Sampler>
void train(ProcessGroup& group, Dataset dataset, const aztorch::ElasticSampler& plan, Sampler sampler,
           const Settings& settings) {
  images::Net net;
  auto optimizer = images::make_optimizer(net);
  images::Result sum;
  const bool saves = !settings.checkpoint_url.empty();
  if (saves && load_checkpoint(settings.checkpoint_url, net, optimizer, sampler, sum) && group.rank() == 0) {
    std::printf("resumed in epoch %zu at sample %zu\n", sampler.epoch(), sampler.position());
    std::fflush(stdout);
  }
  std::ofstream log;
  if (!settings.log.empty()) log.open(settings.log + "." + std::to_string(group.rank()));

  const std::size_t size = program::require_samples(dataset.size().value());
  auto loader =
      torch::data::make_data_loader(std::move(dataset).map(images::StackImages()), sampler,
                                    torch::data::DataLoaderOptions(settings.batch_size).workers(settings.workers));
  std::size_t step = 0;
  for (std::size_t epoch = sampler.epoch(); epoch < settings.epochs; ++epoch) {
    sampler.set_epoch(epoch);
    auto batch = loader->begin();
    const std::size_t samples_per_step = plan.step(0, settings.batch_size);
    Steps bar((size - sampler.position() + samples_per_step - 1) / samples_per_step);
    for (std::size_t position = sampler.position(); position < size;) {
      optimizer.zero_grad();
      images::Result mine;
      std::vector<std::string> names;
      if (batch != loader->end()) {
        if (batch->data.defined()) mine = images::backward(net, batch->data, batch->target, 1);
        names = batch->names;
        sampler.mark_consumed();
        ++batch;
      }
      const auto all = all_reduce(group, net, mine);
      optimizer.step();
      position += plan.step(position, settings.batch_size);
      sum += all;
      if (log.is_open()) {
        char loss[64];
        std::snprintf(loss, sizeof loss, "%a", all.loss);
        log << epoch << ' ' << position << ' ' << loss;
        for (const auto& name : names) log << ' ' << name;
        log << std::endl;
      }
      if (saves && ++step % settings.save_every == 0) {
        const auto cursors = group.all_gather(static_cast<std::int64_t>(position));
        if (group.rank() == 0) save_checkpoint(settings.checkpoint_url, net, optimizer, sampler, cursors, sum);
      }
      if (group.rank() == 0) bar.next(sum.loss / double(sum.samples));
      std::this_thread::sleep_for(settings.pace);
    }
    bar.erase();
    if (group.rank() == 0) images::print_epoch(epoch, sum);
    sum = {};
  }
  group.barrier();  // rank 0 serves the store, so it must not exit first
}

// ---- the rest of the demonstration ----

// The functions of PrefetchSampler that train() needs, for training on files.
class FileSampler : public torch::data::samplers::Sampler<> {
 public:
  explicit FileSampler(const aztorch::ElasticSampler& plan)
      : plan_(std::make_shared<aztorch::ElasticSampler>(plan)) {}

  void set_epoch(std::size_t epoch) { plan_->set_epoch(epoch); }
  std::size_t epoch() const { return plan_->epoch(); }
  std::size_t position() const { return 0; }
  void mark_consumed() {}

  void reset(aztorch::Optional<std::size_t> size = {}) override { plan_->reset(size); }
  aztorch::Optional<std::vector<std::size_t>> next(std::size_t batch_size) override { return plan_->next(batch_size); }
  void save(torch::serialize::OutputArchive& archive) const override { plan_->save(archive); }
  void load(torch::serialize::InputArchive& archive) override { plan_->load(archive); }

 private:
  std::shared_ptr<aztorch::ElasticSampler> plan_;
};

void run(const program::Arguments& arguments) {
  const bool local = arguments.has("local");
  if (arguments.words().size() != (local ? 0 : 1)) throw program::UsageError("a container or --local is needed");
  Settings settings{arguments.number("epochs"),     arguments.number("batch"), arguments.number("workers"),
                    arguments.number("save-every"), "",                        arguments.text("log"),
                    std::chrono::milliseconds(arguments.number("pace"))};
  const std::uint64_t seed = arguments.number("seed");
  if (settings.batch_size == 0 || settings.save_every == 0) {
    throw program::UsageError("--batch and --save-every must not be 0");
  }

  const Rank me = Rank::from_environment();
  const auto plan = [&](std::size_t size) { return aztorch::ElasticSampler(size, me.world_size, me.rank, seed); };
  torch::manual_seed(seed);  // the same initial weights on each rank
  if (local) {
    ProcessGroup group(me);
    const auto dataset = files::dataset<images::Image>(
        arguments.text("local"), [](const torch::Tensor& bytes, const std::string& name, std::size_t index) {
          return images::Image{images::decode(bytes), name, index};
        });
    const auto all = plan(dataset.size().value());
    train(group, dataset, all, FileSampler(all), settings);
    return;
  }
  const std::string& container_url = arguments.words()[0];
  const auto url = [&](const char* end) { return program::blob_url(container_url, arguments.text("run") + end); };
  settings.checkpoint_url = url(".checkpoint");
  list_once(me, container_url, arguments.text("prefix"), url(".manifest"));
  ProcessGroup group(me);
  group.barrier();
  const ExistingImages dataset(aztorch::Dataset::from_manifest(url(".manifest")));
  const auto all = plan(dataset.size().value());
  train(group, dataset, all, aztorch::PrefetchSampler(dataset.images(), all), settings);
}

}  // namespace

int main(int argc, char** argv) {
  return program::run("train_distributed", "usage: train_distributed CONTAINER_URL|--local DIR [OPTIONS]\n", [&] {
    run({argc,
         argv,
         {{"local", ""},
          {"run", "run"},
          {"prefix", "images/"},
          {"epochs", "2"},
          {"batch", "8"},
          {"workers", "2"},
          {"seed", "1"},
          {"save-every", "20"},
          {"log", ""},
          {"pace", "0"}}});
  });
}
