defmodule Emily.Golden.Order do
  @moduledoc "Cases of sorting."

  alias Emily.Golden.{Case, Values, View}

  def cases do
    for name <- ~w(sort argsort)a,
        type <- Case.types(),
        direction <- [:asc, :desc],
        {input, axis} <- inputs(type),
        one <- order(name, input, axis, direction),
        do: one
  end

  defp inputs(type) do
    special = Values.special(type)
    box = Values.random(type, {3, 4, 5}, -3, 3)

    [
      {Values.vector(special ++ Enum.reverse(special), type), 0},
      {Values.vector([hd(special)], type), 0},
      {Values.random(type, {70}, -3, 3), 0},
      {Values.random(type, {2, 1, 3, 1, 4}, -3, 3), 2}
    ] ++
      for input <- [box, View.transposed(box), View.strided(box)], axis <- 0..2, do: {input, axis}
  end

  defp order(name, input, axis, direction) do
    op = %{name => %{axis: axis, direction: direction}}

    Case.record(
      op,
      [input],
      &apply(Nx, name, [&1, [axis: axis, direction: direction, stable: true]])
    )
  end
end
