defmodule Emily.Golden.Choice do
  @moduledoc "Cases of elementwise operations on three inputs."

  alias Emily.Golden.{Case, Values, View}

  def cases, do: select_types() ++ select_shapes() ++ clips()

  defp select_types do
    predicates =
      for type <- Case.types() do
        numbers = Values.special(type)
        count = length(numbers)

        [
          Values.vector(numbers, type),
          Values.random({:s, 32}, {count}),
          Values.random({:s, 32}, {count}, 10, 20)
        ]
      end

    branches =
      for {left, right} <- Case.pairs() do
        x = Values.vector(Values.small(left), left)
        y = Values.vector(Values.small(right), right)
        count = min(Nx.size(x), Nx.size(y))
        [Values.random({:u, 8}, {count}, 0, 1), x[0..(count - 1)], y[0..(count - 1)]]
      end

    same =
      for type <- Case.types() do
        x = Values.vector(Values.special(type), type)
        [Values.random({:u, 8}, x.shape, 0, 1), x, Nx.reverse(x)]
      end

    for inputs <- predicates ++ branches ++ same, one <- select(inputs), do: one
  end

  defp select_shapes do
    for type <- Case.types(),
        new = &Values.random(type, &1, 0, 9),
        inputs <- [
          [Values.vector(1, {:u, 8}), new.({}), new.({})],
          [Values.vector(0, {:u, 8}), new.({2, 3}), new.({3})],
          [Values.vector(1, {:u, 8}), new.({2, 1}), new.({1, 3})],
          [Values.vector(0, {:f, 32}), new.({}), new.({4})],
          [Values.random({:u, 8}, {2, 3}, 0, 1), new.({}), new.({})],
          [Values.random({:u, 8}, {2, 3}, 0, 1), new.({3}), new.({2, 1})],
          [Values.random({:u, 8}, {2, 1, 3, 1, 2}, 0, 1), new.({2}), new.({3, 1, 1})],
          [
            View.transposed(Values.random({:u, 8}, {3, 4}, 0, 1)),
            View.strided(new.({3, 4})),
            View.reversed(new.({3, 4}))
          ]
        ],
        one <- select(inputs),
        do: one
  end

  defp select(inputs), do: Case.record("select", inputs, &Nx.select/3)

  defp clips do
    for {type, bound} <- Case.pairs(), one <- clip(type, bound), do: one
  end

  # BinaryBackend clips NaN to the minimum, since it is not above it; Nx does not say, EXLA and MLX
  # let NaN through, and so does Emily.
  defp clip(type, bound) do
    numbers = if type == bound, do: Values.special(type), else: Values.small(type)
    numbers = Enum.reject(numbers, &(&1 == :nan))

    for {low, high} <- [{1, 3}, {0, 100}, {5, 2}, {-2, 2}],
        not (low < 0 and match?({:u, _}, bound)),
        input <- [
          Values.vector(numbers, type),
          Values.random(type, {}),
          View.transposed(Values.random(type, {2, 3}))
        ],
        inputs = [input, Values.vector(low, bound), Values.vector(high, bound)],
        one <- Case.record("clip", inputs, &Nx.clip/3),
        do: one
  end
end
