defmodule Emily.Backend.Bits do
  @moduledoc false
  # Nx packs types of 2 and 4 bits into bitstrings; MLX has bytes, and each element takes one.

  @doc "A binary with a whole number of bytes for each element."
  def to_bytes(data, type) when is_list(data),
    do: data |> :erlang.list_to_bitstring() |> to_bytes(type)

  def to_bytes(bits, {:u, size}) when size < 8,
    do: for(<<element::size(^size)-unsigned <- bits>>, into: <<>>, do: <<element>>)

  def to_bytes(bits, {:s, size}) when size < 8,
    do: for(<<element::size(^size)-signed <- bits>>, into: <<>>, do: <<element::signed>>)

  def to_bytes(binary, _type), do: binary

  @doc "The elements as Nx packs them."
  def of_bytes(bytes, {kind, size}) when kind in [:u, :s] and size < 8,
    do: for(<<element <- bytes>>, into: <<>>, do: <<element::size(size)>>)

  def of_bytes(bytes, _type), do: bytes
end
