// Stands in for `std::format` where the standard library has none (g++ 12); included before mlx-c.
#pragma once
#include <fmt/format.h>

namespace std {
using fmt::format;
}
