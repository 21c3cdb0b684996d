#pragma once

#include <initializer_list>
#include <memory>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"

#include "../kernels/kernels.h"

namespace emily {

using mlx::core::array;
using mlx::core::Shape;
using mlx::core::Strides;
using mlx::core::cpu::CommandEncoder;

// What all our primitives share: they compute on the host alone, and unless they say otherwise their
// result has the shape and type of the first input.
class HostPrimitive : public mlx::core::UnaryPrimitive {
 public:
  using UnaryPrimitive::UnaryPrimitive;

  void eval_gpu(const std::vector<array>&, array&) override;

  std::vector<Shape> output_shapes(const std::vector<array>& inputs) override {
    return {inputs[0].shape()};
  }

 protected:
  CommandEncoder& encoder() {
    return mlx::core::cpu::get_command_encoder(stream());
  }
};

// Stores the lazy result of a primitive of `inputs`, of which empty ones are left out. Gives mlx-c's
// status.
template <typename P, typename... Arguments>
int made(
    mlx_array* res,
    std::initializer_list<mlx_array> inputs,
    mlx_stream stream,
    Arguments... arguments) {
  try {
    std::vector<array> arrays;
    for (auto input : inputs) {
      if (input.ctx) {
        arrays.push_back(mlx_array_get_(input));
      }
    }
    auto primitive =
        std::make_shared<P>(mlx_stream_get_(stream), arguments...);
    auto shape = primitive->output_shapes(arrays)[0];
    auto type = arrays[0].dtype();
    array made(std::move(shape), type, primitive, std::move(arrays));
    mlx_array_set_(*res, std::move(made));
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}

// The type in the kernels' terms; arrays of other types never come here.
Float float_type(const array& a);

// Gives the result memory in row-major order: the input's, if that has the result's shape and nothing
// else needs it; or else its own.
bool take_memory(const array& input, array& out);
void own_memory(array& out);

} // namespace emily
