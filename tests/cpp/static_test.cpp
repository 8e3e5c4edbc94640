// Objects that live in static storage: their destructors run while the process ends, with requests under way, and those
// of other translation units and of the library's threads in any order. The test is that this program ends, with 0.
// Started without arguments it runs itself in the ways that it knows.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <aztorch/aztorch.hpp>

#include "container.hpp"

namespace {

constexpr std::size_t kSize = 16U << 20U;
constexpr unsigned kPatience = 60;

// Made before main, so destroyed after what main makes; the library's own state is younger than these.
std::optional<aztorch::Client> client;
std::optional<aztorch::BlobReader> reader;
std::optional<aztorch::BlobWriter> writer;
std::optional<aztorch::Dataset> dataset;
std::optional<aztorch::Stream> stream;
std::unique_ptr<aztorch::OStream> output;

// Saves in its destructor, as a logger of metrics would.
struct SavesAtTheEnd {
  bool saves = false;

  ~SavesAtTheEnd() {
    if (!saves) return;
    try {
      aztorch::OStream late(blob_url("static/late"));
      late << "the end";
      late.close();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "in a static destructor: %s\n", error.what());
      _exit(77);
    }
  }
};
SavesAtTheEnd saver;

void fill(const std::string& name) {
  aztorch::BlobWriter large(blob_url(name));
  large.write(std::string(kSize, 'x').data(), kSize);
  large.close();
}

void leave_all_open(bool saves) {
  saver.saves = saves;
  client.emplace();
  reader.emplace(blob_url("static/large"), *client);
  std::vector<char> block(1U << 20U);
  reader->read(block.data(), block.size());
  writer.emplace(blob_url("static/unpublished"), *client);
  writer->write(std::string(kSize, 'x').data(), kSize);
  dataset.emplace(aztorch::Dataset::list(container_url(), "static/large", *client));
  dataset->prefetch({0, 0, 0});
  stream.emplace(aztorch::Stream::from_dataset(*dataset));
  stream->next();
  output = std::make_unique<aztorch::OStream>(blob_url("static/stream"), *client);
  *output << "never closed";
}

bool ends_with_0(const char* program, const char* how) {
  const pid_t child = fork();
  if (child == 0) {
    execl(program, program, how, static_cast<char*>(nullptr));
    _exit(99);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status == 0) return true;
  std::printf("%s: %s %d\n", how, WIFEXITED(status) ? "exit status" : "signal",
              WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    alarm(kPatience);
    leave_all_open(std::strcmp(argv[1], "saves") == 0);
    if (std::strcmp(argv[1], "exits") == 0) std::exit(0);
    return 0;
  }
  fill("static/large");
  int failed = 0;
  for (const char* how : {"returns", "exits", "saves"}) failed += ends_with_0(argv[0], how) ? 0 : 1;
  if (aztorch::exists(blob_url("static/unpublished")) || !aztorch::exists(blob_url("static/late"))) {
    std::puts("a writer in static storage was published, or what a static destructor saved was not");
    ++failed;
  }
  std::printf("%d passed, %d failed\n", 4 - failed, failed);
  return failed == 0 ? 0 : 1;
}
