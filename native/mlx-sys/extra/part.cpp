#include "part.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"

using mlx::core::array;

namespace {

// What it takes to begin an operation.
constexpr size_t OVERHEAD = 2000;
// Of a matrix product, how many multiplications are one unit.
constexpr size_t PRODUCTS = 16;

size_t last(const array& a) {
  return a.ndim() > 0 ? a.shape(-1) : 1;
}

bool is_one_of(
    std::string_view name,
    std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// An estimate: who asks corrects it by what the last part took.
size_t work_of(const array& a) {
  const auto& inputs = a.inputs();
  std::string_view name = a.primitive().name();
  size_t work = a.size();
  if (inputs.empty()) {
    // Nothing but the result.
  } else if (name == "EmilyAttention") {
    // The exponential of a score takes longer than its share of the two products.
    auto scores = a.size() / std::max(last(a), size_t(1)) * inputs[1].shape(-2);
    work += scores + scores / PRODUCTS * (last(inputs[0]) + last(a));
  } else if (is_one_of(
                 name, {"Matmul", "AddMM", "QuantizedMatmul", "EmilyProduct"})) {
    work += a.size() / PRODUCTS * last(inputs[0]);
  } else if (name == "Convolution" && inputs[1].ndim() > 0) {
    auto filters = std::max(inputs[1].shape(0), 1);
    work += a.size() / PRODUCTS * (inputs[1].size() / filters);
  } else if (is_one_of(
                 name,
                 {"Cholesky", "Eig", "Eigh", "Inverse", "LUF", "QRF", "SVD"})) {
    work += inputs[0].size() * last(inputs[0]);
  } else if (is_one_of(name, {"Reduce", "ArgReduce"})) {
    work += inputs[0].size();
  }
  return OVERHEAD + work;
}

// An operation that was found, and whether another found one takes its result.
struct Found {
  const array* result;
  bool taken;
};

class Search {
 public:
  explicit Search(size_t budget) : budget_(budget) {}

  // Whether everything below `root` was found before the budget was spent.
  bool find(const array& root) {
    enter(root);
    while (!path_.empty()) {
      auto& [result, next] = path_.back();
      if (next < result->inputs().size()) {
        enter(result->inputs()[next++]);
        continue;
      }
      if (work_ >= budget_) {
        path_.clear();
        return false;
      }
      finish(*result);
      path_.pop_back();
    }
    return true;
  }

  size_t work() const {
    return work_;
  }

  std::vector<array> untaken() const {
    std::vector<array> arrays;
    for (const auto& found : found_) {
      if (!found.taken) {
        arrays.push_back(*found.result);
      }
    }
    return arrays;
  }

 private:
  void enter(const array& a) {
    if (a.status() != array::Status::unscheduled || !a.has_primitive()) {
      return;
    }
    if (seen_.try_emplace(a.id(), 0).second) {
      for (const auto& sibling : a.siblings()) {
        seen_.try_emplace(sibling.id(), 0);
      }
      path_.emplace_back(&a, 0);
    }
  }

  // Inputs come first, so that what was found can be computed as it is.
  void finish(const array& a) {
    work_ += work_of(a);
    found_.push_back({&a, false});
    auto number = found_.size();
    seen_[a.id()] = number;
    for (const auto& sibling : a.siblings()) {
      seen_[sibling.id()] = number;
    }
    for (const auto& input : a.inputs()) {
      if (auto it = seen_.find(input.id()); it != seen_.end() && it->second) {
        found_[it->second - 1].taken = true;
      }
    }
  }

  size_t budget_;
  size_t work_{0};
  // An operation, and which of its inputs is next.
  std::vector<std::pair<const array*, size_t>> path_;
  std::vector<Found> found_;
  // By the identity of arrays, their place in `found_` counted from 1, or 0 until they are there.
  std::unordered_map<std::uintptr_t, size_t> seen_;
};

} // namespace

extern "C" int emily_graph_part(
    const mlx_vector_array part,
    size_t* work,
    bool* whole,
    const mlx_vector_array roots,
    size_t budget) {
  try {
    Search search(budget);
    const auto& arrays = mlx_vector_array_get_(roots);
    *whole = std::all_of(arrays.begin(), arrays.end(), [&](const array& root) {
      return search.find(root);
    });
    *work = search.work();
    if (!*whole) {
      mlx_vector_array_get_(part) = search.untaken();
    }
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}
