defmodule Emily.Quantization.Bits do
  @moduledoc false
  # Numbers of a few bits in words of 32, one after another from the lowest bit. Words are whole in blocks: of
  # one where the bits are a power of two, else of as many as a number has bits, and some lie in two words.

  import Bitwise, only: [<<<: 2]

  alias Emily.Quantization.Block

  @doc "The numbers, as `:u32`, along the last axis of the words."
  @spec unpack(Nx.Tensor.t(), pos_integer()) :: Nx.Tensor.t()
  def unpack(words, bits) do
    shape = Nx.shape(words)
    {size, count} = block(bits)
    places = for number <- 0..(count - 1), do: divrem(number * bits)
    blocks = blocks(words, div(Block.last(shape), size), size)

    low =
      blocks
      |> take(for {word, _bit} <- places, do: word)
      |> right(for {_word, bit} <- places, do: bit)

    # Moved by 31, nothing of the next word is left under the mask.
    high = for {_word, bit} <- places, do: if(bit + bits > 32, do: 32 - bit, else: 31)
    next = for {word, _bit} <- places, do: min(word + 1, size - 1)

    numbers =
      if size == 1,
        do: low,
        else: Nx.bitwise_or(low, blocks |> take(next) |> left(high))

    numbers
    |> Nx.bitwise_and(Nx.u32((1 <<< bits) - 1))
    |> Nx.reshape(Block.with_last(shape, div(Block.last(shape) * 32, bits)))
  end

  @doc "The words of the numbers, `:u32` below `2 ** bits`, whose last axis is a multiple of a block's."
  @spec pack(Nx.Tensor.t(), pos_integer()) :: Nx.Tensor.t()
  def pack(numbers, bits) do
    shape = Nx.shape(numbers)
    {size, count} = block(bits)
    groups = div(Block.last(shape), count)
    blocks = blocks(numbers, groups, count)
    low = left(blocks, for(number <- 0..(count - 1), do: rem(number * bits, 32)))

    words =
      for word <- 0..(size - 1) do
        first = div(word * 32 + bits - 1, bits)
        last = div(word * 32 + 31, bits)

        low
        |> Nx.slice_along_axis(first, last - first + 1, axis: 2)
        |> Nx.sum(axes: [2])
        |> Nx.as_type(:u32)
        |> add_rest(blocks, word, first * bits - word * 32, bits)
      end

    words
    |> Nx.stack(axis: 2)
    |> Nx.reshape(Block.with_last(shape, groups * size))
  end

  # The words of a block, and its numbers.
  defp block(bits) do
    size = if rem(32, bits) == 0, do: 1, else: bits
    {size, div(size * 32, bits)}
  end

  # The upper bits of the number that begins in the word before, if one does.
  defp add_rest(word, _blocks, _at, 0, _bits), do: word

  defp add_rest(word, blocks, at, rest, bits) do
    number = div(at * 32, bits)
    upper = blocks |> Nx.slice_along_axis(number, 1, axis: 2) |> Nx.squeeze(axes: [2])
    Nx.add(word, Nx.right_shift(upper, Nx.u32(bits - rest)))
  end

  defp blocks(tensor, groups, size) do
    rows = tensor |> Nx.shape() |> Tuple.delete_at(Nx.rank(tensor) - 1) |> Tuple.product()
    Nx.reshape(tensor, {rows, groups, size})
  end

  defp take(blocks, places), do: Nx.take(blocks, Nx.tensor(places, type: :s32), axis: 2)
  defp left(blocks, shifts), do: Nx.left_shift(blocks, Nx.tensor(shifts, type: :u32))
  defp right(blocks, shifts), do: Nx.right_shift(blocks, Nx.tensor(shifts, type: :u32))
  defp divrem(bit), do: {div(bit, 32), rem(bit, 32)}
end
