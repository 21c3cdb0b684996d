defmodule Emily.Quantization.Scheme do
  @moduledoc false
  # How numbers are packed: the mode, the bits of a number, and how many share a scale. As MLX has them.

  @enforce_keys [:mode, :bits, :group_size]
  defstruct [:mode, :bits, :group_size]

  @type mode :: :affine | :mxfp4 | :mxfp8 | :nvfp4
  @type t :: %__MODULE__{mode: mode(), bits: pos_integer(), group_size: pos_integer()}

  # For each mode the bits and the group sizes that it has, what is meant when absent first.
  @modes [
    affine: {[4, 2, 3, 5, 6, 8], [64, 32, 128]},
    mxfp4: {[4], [32]},
    mxfp8: {[8], [32]},
    nvfp4: {[4], [16]}
  ]

  @doc "The scheme of `:mode`, `:bits` and `:group_size`, each of which may be absent."
  @spec new!(keyword() | map()) :: t()
  def new!(opts) do
    mode = opts[:mode] || :affine
    {bits, sizes} = @modes[mode] || refuse(:mode, Keyword.keys(@modes), mode)

    %__MODULE__{
      mode: mode,
      bits: one_of(:bits, bits, opts[:bits], mode),
      group_size: one_of(:group_size, sizes, opts[:group_size], mode)
    }
  end

  @doc "How many tensors a quantized matrix is."
  @spec parts(t() | map()) :: 2 | 3
  def parts(%{mode: :affine}), do: 3
  def parts(_floats), do: 2

  @doc "The attributes that every operation on quantized matrices has."
  @spec attributes(t()) :: keyword()
  def attributes(%__MODULE__{mode: mode, bits: bits, group_size: group_size}),
    do: [mode: mode, bits: bits, group_size: group_size]

  defp one_of(_name, [default | _others], nil, _mode), do: default

  defp one_of(name, allowed, given, mode) do
    if given in allowed,
      do: given,
      else: refuse("#{inspect(name)} of #{inspect(mode)}", allowed, given)
  end

  defp refuse(name, allowed, given) do
    name = if is_atom(name), do: inspect(name), else: name
    {before, [last]} = allowed |> Enum.sort() |> Enum.map(&inspect/1) |> Enum.split(-1)
    text = if before == [], do: last, else: "#{Enum.join(before, ", ")} or #{last}"
    raise ArgumentError, "expected #{name} to be #{text}, got: #{inspect(given)}"
  end
end
