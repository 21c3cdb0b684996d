defmodule Emily.Generation.Sampler.Random do
  @moduledoc false
  # Numbers that follow from a key and their place, as SplitMix makes them (Steele, Lea and Flood, Fast Splittable
  # Pseudorandom Number Generators, 2014), in 32 bits: places, spread over all numbers, are mixed by the rounds of
  # "lowbias32" (Wellons, Prospecting for Hash Functions, 2018). The halves of the key say where the places begin, and
  # keep sequences apart that overlap.

  # The golden ratio's bits: multiples of it are far apart.
  @spread 0x9E3779B9
  @first 0x7FEB352D
  @second 0x846CA68B

  @doc "The key that follows from a seed: one of `Nx.Random`, of which all bits matter."
  def key(seed), do: seed |> Nx.Random.key() |> Nx.Random.split(parts: 1) |> Nx.squeeze(axes: [0])

  @doc "Numbers from 0 up to 1, not included, of `:f32`, and the state that gives others."
  def uniform(state, shape) do
    counts = Nx.add(state.drawn, Nx.iota(shape, type: :u32))

    bits =
      counts
      |> Nx.multiply(number(@spread))
      |> Nx.add(state.key[0])
      |> mixed()
      |> Nx.bitwise_xor(state.key[1])

    # The greatest bits are rounded up to 1.
    numbers = bits |> Nx.as_type(:f32) |> Nx.multiply(2 ** -32) |> Nx.min(1 - 2 ** -24)
    {numbers, %{state | drawn: Nx.add(state.drawn, number(Tuple.product(shape)))}}
  end

  defp mixed(x) do
    x = x |> folded(16) |> Nx.multiply(number(@first))
    x = x |> folded(15) |> Nx.multiply(number(@second))
    folded(x, 16)
  end

  # A quotient by a power of two is a shift that nobody has to look at for how far it goes, which takes operations.
  defp folded(x, by), do: Nx.bitwise_xor(x, Nx.quotient(x, number(2 ** by)))
  defp number(value), do: Nx.tensor(value, type: :u32)
end
