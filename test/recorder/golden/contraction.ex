defmodule Emily.Golden.Contraction do
  @moduledoc "Cases of `Nx.dot/6`."

  alias Emily.Golden.{Case, Values, View}

  # Shapes, then the axes contracted and batched of each side.
  @forms [
    {{5}, {5}, [0], [], [0], []},
    {{3, 4}, {4, 2}, [1], [], [0], []},
    {{4, 3}, {4, 2}, [0], [], [0], []},
    {{3, 4}, {2, 4}, [1], [], [1], []},
    {{3, 4}, {4}, [1], [], [0], []},
    {{4}, {2, 4, 3}, [0], [], [1], []},
    {{2, 3, 4}, {3, 4, 5}, [1, 2], [], [0, 1], []},
    {{2, 3, 4}, {4, 3, 5}, [2, 1], [], [0, 1], []},
    {{2, 3}, {4, 1}, [], [], [], []},
    {{2, 3, 4}, {2, 4, 3}, [2], [0], [1], [0]},
    {{2, 3, 4}, {2, 3, 4}, [1, 2], [0], [1, 2], [0]},
    {{2, 3, 2, 4}, {2, 3, 4, 1}, [3], [0, 1], [2], [0, 1]},
    {{1, 1}, {1, 1}, [1], [], [0], []},
    {{2, 1, 3}, {3, 1, 2, 1, 2}, [2], [], [0], []}
  ]

  def cases do
    alike = for type <- Case.types(), form <- @forms, one <- form(type, type, form), do: one

    mixed =
      for {left, right} <- Case.pairs(),
          left != right,
          form <- [Enum.at(@forms, 1), Enum.at(@forms, 9)],
          one <- form(left, right, form),
          do: one

    alike ++ mixed ++ views() ++ extremes() ++ long()
  end

  defp form(left, right, {a, b, contract_a, batch_a, contract_b, batch_b}) do
    axes = {contract_a, batch_a, contract_b, batch_b}
    dot(Values.random(left, a), Values.random(right, b, -5, 5), axes)
  end

  defp views do
    for type <- Case.types(),
        a = Values.random(type, {2, 3, 4}),
        b = Values.random(type, {2, 4, 3}, -5, 5),
        {a, b} <- [
          {View.transposed(a), b},
          {View.strided(a), View.reversed(b)},
          {a, View.transposed(b)}
        ],
        one <- dot(a, b, {[2], [0], [1], [0]}),
        do: one
  end

  # Integers whose products overflow, which wrap.
  defp extremes do
    for {{left_kind, _} = left, {right_kind, _} = right} <- Case.pairs(),
        left_kind in [:u, :s] and right_kind in [:u, :s],
        x = Values.special(left),
        y = Enum.reverse(Values.special(right)),
        count = min(length(x), length(y)),
        a = Values.vector([Enum.take(x, count), Enum.take(Enum.reverse(x), count)], left),
        b = Values.vector([Enum.take(y, count), Enum.take(Enum.reverse(y), count)], right),
        one <- dot(a, b, {[1], [], [1], []}),
        do: one
  end

  defp long do
    for type <- Case.types(),
        one <-
          dot(
            Values.random(type, {2, 150}, -3, 3),
            Values.random(type, {150}, -1, 1),
            {[1], [], [0], []}
          ),
        do: one
  end

  defp dot(a, b, {contract_a, batch_a, contract_b, batch_b}) do
    op = %{
      dot: %{contract_a: contract_a, batch_a: batch_a, contract_b: contract_b, batch_b: batch_b}
    }

    Case.record(op, [a, b], &Nx.dot(&1, contract_a, batch_a, &2, contract_b, batch_b))
  end
end
