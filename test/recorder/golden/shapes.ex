defmodule Emily.Golden.Shapes do
  @moduledoc "The shapes and layouts in memory that elementwise operations are tried in."

  alias Emily.Golden.{Values, View}

  @doc "Inputs of `type` with numbers from `low` to `high`."
  def inputs(type, low, high) do
    box = Values.random(type, {2, 3, 4}, low, high)

    [
      Values.random(type, {}, low, high),
      Values.random(type, {1, 1}, low, high),
      Values.random(type, {2, 1, 3, 1, 2}, low, high),
      View.transposed(box),
      View.strided(Values.random(type, {3, 5}, low, high)),
      View.reversed(Values.random(type, {7}, low, high)),
      View.repeated(Values.random(type, {5}, low, high), 3)
    ]
  end

  @doc "Pairs of inputs that broadcast to one shape."
  def pairs(left, right, {left_low, left_high}, {right_low, right_high}) do
    a = &Values.random(left, &1, left_low, left_high)
    b = &Values.random(right, &1, right_low, right_high)

    [
      {a.({}), b.({})},
      {a.({}), b.({2, 3})},
      {a.({2, 3}), b.({})},
      {a.({1}), b.({3})},
      {a.({2, 3}), b.({3})},
      {a.({4, 1}), b.({1, 5})},
      {a.({2, 1, 3, 1, 2}), b.({2, 1, 4, 1})},
      {View.transposed(a.({3, 4})), b.({3, 4})},
      {View.strided(a.({3, 4})), View.transposed(b.({3, 4}))},
      {View.reversed(a.({5})), View.repeated(b.({5}), 2)}
    ]
  end
end
