// Helpers of the training programs: options, URLs of blobs, and error reports.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <torch/data/worker_exception.h>
#include <torch/utils.h>

#include <aztorch/aztorch.hpp>

namespace program {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The arguments of a program: words, and options of the form --name value.
class Arguments {
 public:
  // `options` holds the names of all options, with their default values. Throws UsageError for another option.
  Arguments(int argc, char** argv, std::map<std::string, std::string> options) : options_(std::move(options)) {
    for (int i = 1; i < argc; ++i) {
      const std::string word = argv[i];
      if (word.compare(0, 2, "--") != 0) {
        words_.push_back(word);
        continue;
      }
      const auto option = options_.find(word.substr(2));
      if (option == options_.end()) throw UsageError("no option is called " + word);
      if (++i == argc) throw UsageError(word + " needs a value");
      option->second = argv[i];
    }
  }

  const std::vector<std::string>& words() const { return words_; }
  const std::string& text(const std::string& name) const { return options_.at(name); }
  bool has(const std::string& name) const { return !text(name).empty(); }

  std::size_t number(const std::string& name) const {
    const std::string& digits = text(name);
    if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos) {
      throw UsageError("--" + name + " takes a number, not '" + digits + "'");
    }
    return std::stoul(digits);
  }

 private:
  std::map<std::string, std::string> options_;
  std::vector<std::string> words_;
};

// The URL of a blob in the container. The names that these programs use need no percent-encoding.
inline std::string blob_url(const std::string& container_url, const std::string& name) {
  const std::size_t end = std::min(container_url.find('?'), container_url.size());
  std::string path = container_url.substr(0, end);
  if (path.empty() || path.back() != '/') path += '/';
  return path + name + container_url.substr(end);
}

// `samples`. Throws when it is 0: an empty listing is not an error, but training needs samples.
inline std::size_t require_samples(std::size_t samples) {
  if (samples == 0) throw std::runtime_error("there are no samples");
  return samples;
}

// Runs `body` and returns the exit status. An exception is printed as one line; one of a worker is unwrapped.
template <typename Body>
int run(const char* name, const char* usage, Body body) {
  torch::set_num_threads(1);  // so that sums have the same bits on machines with different numbers of cores
  try {
    try {
      body();
      return EXIT_SUCCESS;
    } catch (const torch::data::WorkerException& error) {
      std::rethrow_exception(error.original_exception);
    }
  } catch (const UsageError& error) {
    std::fprintf(stderr, "%s: %s\n%s", name, error.what(), usage);
    return 2;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what_without_backtrace());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
  }
  return EXIT_FAILURE;
}

}  // namespace program
