// Objects in static storage: their destructors run while the process ends, with requests in flight. Expects that the
// process ends with exit status 0. Without arguments the program runs itself once for each way to end.
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
constexpr unsigned kTimeoutSeconds = 60;

// Constructed before main, so they are destroyed late: after the state of the library, which is made later.
std::optional<aztorch::Client> client;
std::optional<aztorch::BlobReader> reader;
std::optional<aztorch::BlobWriter> writer;
std::optional<aztorch::Dataset> dataset;
std::optional<aztorch::Stream> stream;
std::unique_ptr<aztorch::OStream> output;

// Writes a blob in its destructor, as a metrics logger may do.
struct SavesInDestructor {
  bool enabled = false;

  ~SavesInDestructor() {
    if (!enabled) return;
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
SavesInDestructor saver;

void write_large(const std::string& name) {
  aztorch::BlobWriter large(blob_url(name));
  large.write(std::string(kSize, 'x').data(), kSize);
  large.close();
}

void leave_all_open(bool saves) {
  saver.enabled = saves;
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

// Runs this program, which ends in the way `how`. Returns whether its exit status is 0.
bool exits_with_0(const char* program, const char* how) {
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
    alarm(kTimeoutSeconds);
    leave_all_open(std::strcmp(argv[1], "saves") == 0);
    if (std::strcmp(argv[1], "exits") == 0) std::exit(0);
    return 0;
  }
  write_large("static/large");
  int failed = 0;
  for (const char* how : {"returns", "exits", "saves"}) failed += exits_with_0(argv[0], how) ? 0 : 1;
  if (aztorch::exists(blob_url("static/unpublished")) || !aztorch::exists(blob_url("static/late"))) {
    std::puts("a writer was published without close(), or a static destructor's blob was not published");
    ++failed;
  }
  std::printf("%d passed, %d failed\n", 4 - failed, failed);
  return failed == 0 ? 0 : 1;
}
