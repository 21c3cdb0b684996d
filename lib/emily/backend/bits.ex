defmodule Emily.Backend.Bits do
  @moduledoc false
  # Nx has bitstrings where types of 2 and 4 bits end within a byte; Emily has whole bytes.

  @doc "The data with its last byte filled with zeros."
  def to_bytes(data) when is_list(data), do: data |> :erlang.list_to_bitstring() |> to_bytes()
  def to_bytes(binary) when is_binary(binary), do: binary

  def to_bytes(bits) do
    missing = 8 - rem(bit_size(bits), 8)
    <<bits::bits, 0::size(missing)>>
  end

  @doc "The bits of `size` elements of a type."
  def of_bytes(bytes, size, {_kind, bits}) do
    count = size * bits
    <<data::bits-size(^count), _filling::bits>> = bytes
    data
  end
end
