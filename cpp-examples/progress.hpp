// Progress bars: Progress for a stream, Steps for a training loop. They draw only when stderr is a terminal.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ios>
#include <streambuf>
#include <string>

// A line on the terminal, redrawn at most 20 times a second and erased by the destructor.
class Bar {
 public:
  Bar() : draws_(::isatty(STDERR_FILENO) != 0) {}
  Bar(const Bar&) = delete;
  Bar& operator=(const Bar&) = delete;

  ~Bar() { erase(); }

  void erase() const {
    if (draws_) std::fprintf(stderr, "\r\x1b[K");
  }

  // Draws the bar and the text that `describe` returns, which is called only when the bar is drawn.
  template <typename Describe>
  void draw(std::uint64_t done, std::uint64_t total, Describe describe) {
    const auto now = std::chrono::steady_clock::now();
    if (!draws_ || now - drawn_ < std::chrono::milliseconds(50)) return;
    drawn_ = now;
    constexpr std::uint64_t kWidth = 30;
    const std::uint64_t filled = total == 0 ? kWidth : std::min(kWidth, done * kWidth / total);
    std::string bar(static_cast<std::size_t>(filled), '#');
    bar.resize(kWidth, '.');
    std::fprintf(stderr, "\r[%s] %s\x1b[K", bar.c_str(), describe().c_str());
  }

 private:
  bool draws_;
  std::chrono::steady_clock::time_point drawn_{};
};

// Shows the progress of a training loop.
class Steps {
 public:
  explicit Steps(std::uint64_t total) : total_(total) {}

  void erase() const { bar_.erase(); }

  // Counts a step and shows the loss.
  void next(double loss) {
    ++done_;
    bar_.draw(done_, total_, [&] {
      char text[64];
      std::snprintf(text, sizeof text, "step %llu of %llu  loss %.4f", static_cast<unsigned long long>(done_),
                    static_cast<unsigned long long>(std::max(done_, total_)), loss);
      return std::string(text);
    });
  }

 private:
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  Bar bar_;
};

// Shows the progress of a stream: a stream buffer between a stream and its own buffer that counts the bytes.
class Progress : public std::streambuf {
 public:
  Progress(std::basic_ios<char>& stream, std::uint64_t total)
      : stream_(stream), inner_(stream.rdbuf()), total_(total) {
    stream_.rdbuf(this);
  }

  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  ~Progress() override {
    const auto state = stream_.rdstate();
    stream_.rdbuf(inner_);
    // rdbuf() has cleared the state. setstate() may throw, which it must not while an exception unwinds the stack.
    if (stream_.exceptions() == std::ios_base::goodbit) stream_.setstate(state);
  }

  // The number of bulk reads or writes.
  std::uint64_t calls() const { return calls_; }

 protected:
  std::streamsize xsputn(const char* data, std::streamsize length) override {
    return count(inner_->sputn(data, length));
  }
  int_type overflow(int_type character) override { return inner_->sputc(traits_type::to_char_type(character)); }
  std::streamsize xsgetn(char* data, std::streamsize length) override { return count(inner_->sgetn(data, length)); }
  int_type underflow() override { return inner_->sgetc(); }
  int_type uflow() override { return inner_->sbumpc(); }
  int sync() override { return inner_->pubsync(); }

  pos_type seekoff(off_type offset, std::ios_base::seekdir direction, std::ios_base::openmode which) override {
    return inner_->pubseekoff(offset, direction, which);
  }
  pos_type seekpos(pos_type position, std::ios_base::openmode which) override {
    return inner_->pubseekpos(position, which);
  }

 private:
  std::streamsize count(std::streamsize bytes) {
    done_ += static_cast<std::uint64_t>(bytes);
    ++calls_;
    bar_.draw(done_, total_, [&] {
      char text[64];
      std::snprintf(text, sizeof text, "%.1f of %.1f MB", double(done_) / 1e6, double(total_) / 1e6);
      return std::string(text);
    });
    return bytes;
  }

  std::basic_ios<char>& stream_;
  std::streambuf* inner_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  std::uint64_t calls_ = 0;
  Bar bar_;
};
