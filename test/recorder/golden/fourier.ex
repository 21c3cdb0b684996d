defmodule Emily.Golden.Fourier do
  @moduledoc "Cases of Fourier transforms."

  alias Emily.Golden.{Case, Exclusions, Values, View}

  @eps 1.0e-10

  def cases do
    one_axis =
      for name <- ~w(fft ifft rfft irfft)a,
          type <- Case.types(),
          {input, axis, length} <- vectors(type),
          fit?(name, type, length),
          one <- transform(name, input, axis, length, @eps),
          do: one

    two_axes =
      for name <- ~w(fft2 ifft2)a,
          type <- Case.types(),
          {input, axes, lengths} <- planes(type),
          fit?(name, type, Enum.min(lengths)),
          one <- transform2(name, input, axes, lengths, @eps),
          do: one

    one_axis ++ two_axes ++ thresholds()
  end

  defp vectors(type) do
    vector = fn size -> Values.random(type, {size}, -3, 3) end
    box = Values.random(type, {3, 4, 2}, -3, 3)
    deep = Values.random(type, {2, 1, 3, 1, 4}, -3, 3)

    sizes = for size <- [1, 2, 3, 8, 13, 24], do: {vector.(size), 0, size}
    lengths = for length <- [1, 2, 5, 9, 16], do: {vector.(6), 0, length}

    views =
      for input <- [box, View.transposed(box), View.strided(box), View.reversed(box)],
          {axis, length} <- [{0, 4}, {1, 4}, {2, 5}],
          do: {input, axis, length}

    sizes ++ lengths ++ views ++ [{deep, 2, 5}, {deep, 4, 3}, {vector.(97), 0, 97}]
  end

  defp planes(type) do
    box = Values.random(type, {3, 4, 5}, -3, 3)

    [{Values.random(type, {1, 1}), [0, 1], [1, 1]}, {Values.random(type, {4, 6}), [0, 1], [4, 6]}] ++
      for input <- [box, View.transposed(box), View.strided(box)],
          {axes, lengths} <- [{[1, 2], [4, 5]}, {[0, 2], [2, 8]}, {[2, 1], [3, 7]}],
          do: {input, axes, lengths}
  end

  # BinaryBackend loses a transform of one real number. Of f64 the transform is c128, which MLX does
  # not have, and so is what irfft has on its way to f64.
  defp fit?(_name, {:f, 64}, _length), do: false

  defp fit?(:irfft, type, _length) when type == {:f8_e4m3fn, 8},
    do: not Exclusions.mispadded?(type)

  defp fit?(_name, type, 1), do: match?({:c, _}, type)
  defp fit?(_name, _type, _length), do: true

  # What is not above the threshold is 0, each part for itself.
  defp thresholds do
    tiny = Values.vector([1.0e-11, -3.0e-11, 2.0e-11, 0.5e-11], {:f, 32})
    small = Values.vector([0.25, 0.0, 0.125, -0.25], {:f, 32})

    for name <- ~w(fft ifft rfft irfft)a,
        {input, eps} <- [{tiny, @eps}, {tiny, 1.0e-12}, {small, 0.2}, {small, 0.0}],
        length = if(name == :irfft, do: 6, else: 4),
        one <- transform(name, input, 0, length, eps),
        do: one
  end

  # BinaryBackend mixes up the axes behind the transformed one, so that is the last one for it. Of the half
  # types irfft gives f32, where Nx declares them for the result too.
  defp transform(name, input, axis, length, eps) do
    op = %{name => %{axis: axis, length: length, eps: eps}}

    fun = fn x ->
      out = at_the_end(x, [axis], &apply(Nx, name, [&1, [length: length, eps: eps]]))
      if name == :irfft, do: Nx.as_type(out, Nx.Type.to_real(x.type)), else: out
    end

    Case.record(op, [input], fun)
  end

  defp transform2(name, input, axes, lengths, eps) do
    op = %{name => %{axes: axes, lengths: lengths, eps: eps}}
    fun = fn x -> at_the_end(x, axes, &apply(Nx, name, [&1, [lengths: lengths, eps: eps]])) end
    Case.record(op, [input], fun)
  end

  defp at_the_end(x, axes, fun) do
    order = (Nx.axes(x) -- axes) ++ axes
    back = order |> Enum.with_index() |> Enum.sort() |> Enum.map(&elem(&1, 1))
    x |> Nx.transpose(axes: order) |> fun.() |> Nx.transpose(axes: back)
  end
end
