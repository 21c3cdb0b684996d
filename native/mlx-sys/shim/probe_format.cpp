#include <format>
#include <string>

std::string probe() {
  return std::format("{}", 1);
}
