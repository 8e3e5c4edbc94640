// Writes a blob as a std::ostream and reads it as a std::istream: stream URL
#include <aztorch/aztorch.hpp>
#include <iostream>
#include <string>

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  aztorch::OStream out(argv[1]);
  out << "one\ntwo\n";
  out.close();
  aztorch::IStream in(argv[1]);
  std::string first, second;
  std::getline(in, first);
  std::getline(in, second);
  std::cout << first << ' ' << second << '\n';
  return first == "one" && second == "two" ? 0 : 1;
}
