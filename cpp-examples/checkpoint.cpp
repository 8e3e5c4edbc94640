// Saves a ResNet-18 to an Azure blob and loads it back.
//
//   checkpoint save URL              saves with torch::save
//   checkpoint load URL              loads with torch::load, and compares with the model that `save` saves
//   checkpoint save-state-dict URL   saves for Python's model.load_state_dict(torch.load(file))
//   checkpoint load-state-dict URL   loads a file of Python's torch.save(model.state_dict(), file), and compares
//   checkpoint save-slowly URL       saves in about 12 s, and prints `sending` when a third of the model is at the
//                                    service: for tests that kill it then, which must leave the previous blob
//
// URL is https://ACCOUNT.blob.core.windows.net/CONTAINER/NAME?SAS. --seed N selects another model. Each command prints
// one line such as `46.9 MB  0.31 s`. After a load it also has torch's number of reads and `122/122 tensors bit-equal`.
// The exit status is 0 only on success.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <streambuf>
#include <string>
#include <thread>

#include <aztorch/torch.hpp>

#include "progress.hpp"
#include "resnet18.hpp"

namespace {

using resnet::ResNet18;

// ---- the part that a program needs ----

// Returns the number of bytes. `about` is their approximate number, for the progress bar.
std::uint64_t save(const ResNet18& model, const std::string& url, std::uint64_t about) {
  aztorch::OStream out(url);
  const Progress bar(out, about);
  torch::save(model, out);
  out.close();  // publishes the blob; throws the first error of any write
  return out.writer().tell();
}

struct Loaded {
  std::uint64_t bytes;
  std::uint64_t reads;  // by torch, from the stream
};

Loaded load(ResNet18& model, const std::string& url) {
  aztorch::IStream in(url);
  const Progress bar(in, in.reader().size());
  torch::load(model, in);
  return {in.reader().size(), bar.calls()};
}

// Without a progress bar, save and load are one line each:
//   aztorch::save(model, url);              aztorch::load(model, url);
void save_for_python(const ResNet18& model, const std::string& url) { aztorch::save_state_dict(model, url); }
void load_from_python(ResNet18& model, const std::string& url) { aztorch::load_state_dict(model, url); }

// ---- the rest of the demonstration ----

// A model whose parameters and buffers are all random, so that equality proves that they were loaded.
ResNet18 make_model(std::uint64_t seed) {
  torch::manual_seed(seed);
  ResNet18 model;
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters()) parameter.normal_();
  for (auto& buffer : model->buffers()) buffer.copy_(torch::rand(buffer.sizes()) * 1000);
  return model;
}

std::uint64_t bytes_in(const ResNet18& model) {
  std::uint64_t bytes = 0;
  for (const auto& tensor : model->parameters()) bytes += tensor.nbytes();
  for (const auto& tensor : model->buffers()) bytes += tensor.nbytes();
  return bytes;
}

bool same_bits(const torch::Tensor& left, const torch::Tensor& right) {
  return left.sizes() == right.sizes() && left.scalar_type() == right.scalar_type() &&
         std::memcmp(left.contiguous().data_ptr(), right.contiguous().data_ptr(), left.nbytes()) == 0;
}

// Prints how many tensors are equal, bit for bit. Returns whether all are.
bool compare(const ResNet18& loaded, const ResNet18& expected) {
  std::size_t equal = 0;
  std::size_t total = 0;
  const auto count = [&](const auto& left, const auto& right) {
    total += right.size();
    for (const auto& entry : right) {
      const auto* found = left.find(entry.key());
      equal += found != nullptr && same_bits(*found, entry.value());
    }
  };
  count(loaded->named_parameters(), expected->named_parameters());
  count(loaded->named_buffers(), expected->named_buffers());
  std::printf("  %zu/%zu tensors bit-equal", equal, total);
  return equal == total;
}

// Limits a stream to 4 MB/s. Prints `sending` when `announce_at` bytes are at the service.
class SlowBuffer : public std::streambuf {
 public:
  SlowBuffer(aztorch::OStream& out, std::uint64_t announce_at)
      : out_(out), inner_(out.rdbuf()), announce_at_(announce_at) {
    out.rdbuf(this);
  }

 protected:
  std::streamsize xsputn(const char* data, std::streamsize length) override {
    inner_->sputn(data, length);
    sent_ += static_cast<std::uint64_t>(length);
    if (!announced_ && sent_ >= announce_at_) {
      inner_->pubsync();
      out_.writer().flush();
      std::puts("sending");
      std::fflush(stdout);
      announced_ = true;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(length / 4));
    return length;
  }

  int_type overflow(int_type character) override { return inner_->sputc(traits_type::to_char_type(character)); }

 private:
  aztorch::OStream& out_;
  std::streambuf* inner_;
  std::uint64_t announce_at_;
  std::uint64_t sent_ = 0;
  bool announced_ = false;
};

void save_slowly(const ResNet18& model, const std::string& url) {
  aztorch::OStream out(url);
  SlowBuffer slow(out, bytes_in(model) / 3);
  torch::save(model, out);
  out.close();
}

bool run(const std::string& command, const std::string& url, std::uint64_t seed) {
  const ResNet18 expected = make_model(seed);
  const bool loads = command == "load" || command == "load-state-dict";
  ResNet18 model = loads ? make_model(seed + 1) : expected;

  const auto start = std::chrono::steady_clock::now();
  std::uint64_t size = bytes_in(model);
  if (command == "save") size = save(model, url, size);
  Loaded loaded{};
  if (command == "load") loaded = load(model, url);
  if (command == "save-state-dict") save_for_python(model, url);
  if (command == "load-state-dict") load_from_python(model, url);
  if (command == "save-slowly") save_slowly(model, url);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;

  if (command == "load") size = loaded.bytes;
  std::printf("%.1f MB  %.2f s", double(size) / 1e6, elapsed.count());
  if (command == "load") std::printf("  %llu reads by torch", static_cast<unsigned long long>(loaded.reads));
  const bool good = !loads || compare(model, expected);
  std::printf("\n");
  return good;
}

int usage() {
  std::fputs("usage: checkpoint save|load|save-state-dict|load-state-dict|save-slowly URL [--seed N]\n", stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && !(argc == 5 && std::strcmp(argv[3], "--seed") == 0)) return usage();
  const std::string command = argv[1];
  const std::string commands = " save load save-state-dict load-state-dict save-slowly ";
  if (commands.find(" " + command + " ") == std::string::npos) return usage();
  try {
    return run(command, argv[2], argc == 5 ? std::strtoull(argv[4], nullptr, 10) : 18) ? 0 : 1;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "checkpoint: %s\n", error.what_without_backtrace());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "checkpoint: %s\n", error.what());
  }
  return 1;
}
