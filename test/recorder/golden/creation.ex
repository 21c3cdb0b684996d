defmodule Emily.Golden.Creation do
  @moduledoc "Cases of tensors from nothing."

  alias Emily.Golden.{Case, Values}

  @shapes [{}, {1}, {5}, {2, 3}, {3, 1, 2}, {2, 1, 3, 1, 2}]

  def cases, do: Enum.concat([constants(), iotas(), eyes()])

  defp constants do
    for type <- Case.types(),
        {value, index} <- Enum.with_index(Enum.uniq(Values.special(type) ++ [1, 0])),
        shape = Enum.at(@shapes, rem(index, length(@shapes))),
        one <- constant(type, shape, value),
        do: one
  end

  # No function of Nx's hands a value and a shape to the backend at once.
  defp constant(type, shape, value) do
    out = Nx.template(shape, type)
    fun = fn -> Nx.BinaryBackend.constant(out, value, []) end
    Case.record(%{constant: %{value: json(value)}}, [], fun, infer: false)
  end

  defp json(%Complex{re: re, im: im}) when is_number(re) and is_number(im), do: [re, im]
  defp json(%Complex{} = value), do: [json(value.re), json(value.im)]
  defp json(value), do: value

  defp iotas do
    for type <- Case.types(),
        shape <- @shapes ++ [{300}, {2, 150}],
        axis <- [nil | Enum.to_list(0..4)],
        axis == nil or axis < tuple_size(shape),
        one <-
          Case.record(
            %{iota: %{axis: axis}},
            [],
            fn -> Nx.iota(shape, axis: axis, type: type) end,
            infer: false
          ),
        do: one
  end

  defp eyes do
    for type <- Case.types(),
        shape <- [{1, 1}, {3, 3}, {2, 4}, {5, 1}, {2, 3, 3}, {2, 1, 2, 3, 2}],
        one <- Case.record("eye", [], fn -> Nx.eye(shape, type: type) end, infer: false),
        do: one
  end
end
