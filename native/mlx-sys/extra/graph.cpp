#include "graph.h"

#include <unordered_set>
#include <utility>
#include <vector>

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"

extern "C" int emily_graph_visit(
    const mlx_vector_array roots,
    void (*visit)(void* context, const char* name),
    void* context) {
  using mlx::core::array;
  try {
    std::unordered_set<std::uintptr_t> seen;
    // An operation, and which of its inputs is next.
    std::vector<std::pair<const array*, size_t>> path;
    auto enter = [&](const array& a) {
      bool waits = a.status() == array::Status::unscheduled && a.has_primitive();
      if (waits && seen.insert(a.id()).second) {
        for (const auto& sibling : a.siblings()) {
          seen.insert(sibling.id());
        }
        path.emplace_back(&a, 0);
      }
    };
    for (const auto& root : mlx_vector_array_get_(roots)) {
      enter(root);
      while (!path.empty()) {
        auto& [result, next] = path.back();
        if (next < result->inputs().size()) {
          enter(result->inputs()[next++]);
        } else {
          visit(context, result->primitive().name());
          path.pop_back();
        }
      }
    }
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}
