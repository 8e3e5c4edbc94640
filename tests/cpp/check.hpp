// A small test framework: tests that register themselves, assertions that do not end the test, and a runner.
#pragma once

#include <cstdio>
#include <exception>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace check {

struct Test {
  const char* name;
  std::function<void()> run;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Registration {
  Registration(const char* name, std::function<void()> run) { tests().push_back({name, std::move(run)}); }
};

inline void fail(const char* file, int line, const std::string& what) {
  std::printf("%s:%d: %s\n", file, line, what.c_str());
  ++failures();
}

template <typename T>
std::string show(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

template <typename Left, typename Right>
void equal(const char* file, int line, const char* text, const Left& left, const Right& right) {
  if (!(left == right)) fail(file, line, std::string(text) + ": " + show(left) + " is not " + show(right));
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Runs the tests whose names contain the first argument, or all. Returns the exit status.
inline int run_all(int argc, char** argv) {
  const std::string filter = argc > 1 ? argv[1] : "";
  int passed = 0;
  int failed = 0;
  for (const auto& test : tests()) {
    if (!contains(test.name, filter)) continue;
    const int before = failures();
    try {
      test.run();
    } catch (const std::exception& error) {
      fail(test.name, 0, std::string("threw: ") + error.what());
    }
    const bool good = failures() == before;
    std::printf("%-6s %s\n", good ? "ok" : "FAILED", test.name);
    std::fflush(stdout);
    ++(good ? passed : failed);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace check

#define TEST(name)                                                  \
  static void name();                                               \
  static const check::Registration register_##name(#name, name);    \
  static void name()

#define EXPECT(...) ((__VA_ARGS__) ? void() : check::fail(__FILE__, __LINE__, #__VA_ARGS__))

#define EXPECT_EQUAL(left, right) check::equal(__FILE__, __LINE__, #left, left, right)

#define EXPECT_CONTAINS(text, part)                                                                 \
  (check::contains(text, part) ? void() : check::fail(__FILE__, __LINE__, "\"" + std::string(text) + \
                                                      "\" does not contain \"" + (part) + "\""))

// Expects the statement to throw the type. The statements after it may use the exception as `thrown`.
#define EXPECT_THROWS(type, statement, ...)                                         \
  do {                                                                             \
    bool check_thrown = false;                                                     \
    try {                                                                          \
      statement;                                                                   \
    } catch (const type& thrown) {                                            \
      check_thrown = true;                                                         \
      __VA_ARGS__;                                                                 \
    }                                                                              \
    if (!check_thrown) check::fail(__FILE__, __LINE__, #statement " did not throw " #type); \
  } while (false)
