// Measures aztorch::load, load_state_dict and jit_load, and beside each one parallel read of the same blob.
// torch_load.py runs it:
//
//   torch_load write resnet18|tensors FILE   writes a file for the server, with torch::save
//   torch_load measure KIND URL RUNS         measures; KIND is load, load_state_dict, jit_load or tensors
//   torch_load requests KIND URL             loads once and prints the server's list of requests
//
// Each run has a new client, like a program that starts and loads its weights, and newly allocated memory, like new
// tensors.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <aztorch/torch.hpp>

#include "resnet18.hpp"

namespace {

constexpr std::int64_t tensor_count = 4;
constexpr std::int64_t tensor_bytes = std::int64_t{1} << 30;

struct Cost {
  double wall;  // seconds
  double cpu;   // seconds, of all threads
  double peak_megabytes;
};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// A field of /proc/self/status, such as VmHWM or VmRSS, in MB.
double memory(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::stod(line.substr(name.size() + 1)) * 1024 / 1e6;
  }
  throw std::runtime_error("/proc/self/status has no " + name);
}

// The cost of `work`, which gets a new client. The peak memory is counted from the resident memory before.
Cost measure(const std::function<void(const aztorch::Client&)>& work) {
  // Resets the peak, VmHWM, to the memory that is resident now.
  if (!(std::ofstream("/proc/self/clear_refs") << "5" << std::flush)) throw std::runtime_error("cannot reset VmHWM");
  const double resident = memory("VmRSS");
  const double cpu = cpu_seconds();
  const auto began = std::chrono::steady_clock::now();
  work(aztorch::Client(aztorch::ClientOptions()));
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - began;
  return {wall.count(), cpu_seconds() - cpu, memory("VmHWM") - resident};
}

Cost median(const std::vector<Cost>& costs) {
  const auto of = [&costs](double Cost::*figure) {
    std::vector<double> values;
    for (const Cost& cost : costs) values.push_back(cost.*figure);
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  return {of(&Cost::wall), of(&Cost::cpu), of(&Cost::peak_megabytes)};
}

void read_whole(const std::string& url, const aztorch::Client& client) {
  aztorch::BlobReader reader(url, client);
  const std::size_t size = reader.size();
  const std::unique_ptr<char[]> buffer(new char[size]);
  if (reader.read(buffer.get(), size) != size) throw std::runtime_error("the blob is shorter than its size");
}

// The load to be measured. The result owns the module that it loads into, so that making the module is not measured.
std::function<void(const aztorch::Client&)> loader(const std::string& kind, const std::string& url) {
  if (kind == "jit_load") {
    return [url](const aztorch::Client& client) { aztorch::jit_load(url, client); };
  }
  if (kind == "tensors") {
    return [url](const aztorch::Client& client) {
      std::vector<torch::Tensor> tensors;
      aztorch::load(tensors, url, client);
      if (tensors.size() != tensor_count) throw std::runtime_error("a tensor is missing");
    };
  }
  resnet::ResNet18 model;
  if (kind == "load") {
    return [url, model](const aztorch::Client& client) mutable { aztorch::load(model, url, client); };
  }
  if (kind == "load_state_dict") {
    return [url, model](const aztorch::Client& client) mutable {
      aztorch::load_state_dict(model, url, true, client);
    };
  }
  throw std::runtime_error("unknown kind " + kind);
}

// The server's list of the requests since the last call.
std::string requests(const std::string& url) {
  // The server records requests that were cancelled at the end of a load a little later.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const aztorch::Client client{aztorch::ClientOptions()};
  aztorch::IStream log(url.substr(0, url.rfind('/')) + "/requests", client);
  std::ostringstream text;
  text << log.rdbuf();
  return text.str();
}

void measure_kind(const std::string& kind, const std::string& url, int runs) {
  const auto load = loader(kind, url);
  const auto whole = [&url](const aztorch::Client& client) { read_whole(url, client); };
  const auto size = static_cast<double>(aztorch::BlobReader(url).size());
  whole(aztorch::Client(aztorch::ClientOptions()));
  load(aztorch::Client(aztorch::ClientOptions()));

  std::vector<Cost> floors, loads;
  double most_requests = 0, most_bytes = 0;
  for (int run = 0; run < runs; ++run) {
    floors.push_back(measure(whole));
    requests(url);
    loads.push_back(measure(load));
    std::istringstream log(requests(url));
    std::string head;
    std::getline(log, head);
    double count = 0, bytes = 0;
    for (double begin, end, first, length; log >> begin >> end >> first >> length; ++count) bytes += length;
    most_requests = std::max(most_requests, count);
    most_bytes = std::max(most_bytes, bytes);
  }
  const Cost floor = median(floors), ours = median(loads);
  std::printf(
      "%-16s whole %6.3f s %6.3f cpu   load %6.3f s %6.3f cpu   ratio %5.2f wall %5.2f cpu   %3.0f GETs  %.4f x bytes"
      "   VmHWM: +%.0f MB, file %+.0f MB\n",
      kind.c_str(), floor.wall, floor.cpu, ours.wall, ours.cpu, ours.wall / floor.wall, ours.cpu / floor.cpu,
      most_requests, most_bytes / size, ours.peak_megabytes, ours.peak_megabytes - size / 1e6);
}

void write(const std::string& what, const std::string& path) {
  if (what == "resnet18") {
    torch::manual_seed(1);
    torch::save(resnet::ResNet18(), path);
    return;
  }
  std::vector<torch::Tensor> tensors;
  for (std::int64_t i = 0; i < tensor_count; ++i) {
    tensors.push_back(torch::full({tensor_bytes / 4}, static_cast<float>(i)));
  }
  torch::save(tensors, path);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string verb = arguments.empty() ? "" : arguments[0];
  try {
    if (verb == "write" && arguments.size() == 3) {
      write(arguments[1], arguments[2]);
    } else if (verb == "measure" && arguments.size() == 4) {
      measure_kind(arguments[1], arguments[2], std::stoi(arguments[3]));
    } else if (verb == "requests" && arguments.size() == 3) {
      loader(arguments[1], arguments[2])(aztorch::Client(aztorch::ClientOptions()));
      std::fputs(requests(arguments[2]).c_str(), stdout);
    } else {
      std::fputs("usage: see the head of torch_load.cpp\n", stderr);
      return 2;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "torch_load: %s\n", error.what());
    return 1;
  }
}
