defmodule Emily do
  @moduledoc """
  Tensors on MLX: bytes in, operations, bytes out.

      iex> a = Emily.from_binary(<<1.0::32-float-native, 2.0::32-float-native>>, [2], {:f, 32})
      iex> sum = Emily.op(:add, [a, a])
      iex> Emily.to_binary(sum)
      <<2.0::32-float-native, 4.0::32-float-native>>

  A tensor is lazy: `op/3` only notes what is to be computed, and `to_binary/1` or `eval/1` computes
  it, on a thread of Emily's own. Schedulers never wait for MLX. Tensors can be sent to other
  processes of the node and are freed when no process holds them. To other nodes, and into files, goes
  what `to_binary/1` gives.

  Types are Nx's: `{:u | :s, 2 | 4 | 8 | 16 | 32 | 64}`, `{:f, 8 | 16 | 32 | 64}`, `{:f8_e4m3fn, 8}`,
  `{:bf, 16}` and `{:c, 64}`. There is no `{:c, 128}`, and on GPUs no `{:f, 64}`. Those that MLX does
  not have, integers of 2 and 4 bits and floats of 8, take 8 and 16 bits of its memory.

  Operations and their attributes are named as in Nx and mean exactly what they mean there. Results
  in a float type narrower than f32 are rounded to the nearest number, ties to even. What is beyond
  the range of `{:f, 8}` becomes an infinity; `{:f8_e4m3fn, 8}` has none, and 448 takes its place.
  """

  alias Emily.Native
  alias Emily.Native.{Observer, Pressure}
  alias Emily.Stream

  # A larger copy takes longer than a scheduler should be held.
  @large_bytes 1_048_576

  # Of types that MLX does not have: their elements are written anew one by one.
  @large_narrow_bytes 32_768
  @narrow [{:u, 2}, {:u, 4}, {:s, 2}, {:s, 4}, {:f, 8}, {:f8_e4m3fn, 8}]

  defguardp is_large(binary, dtype)
            when byte_size(binary) > @large_bytes or
                   (byte_size(binary) > @large_narrow_bytes and dtype in @narrow)

  # A part of this size is not copied.
  @head_bytes 128

  @typedoc "A tensor: a reference to memory or to a computation of MLX's."
  @opaque t :: reference()

  @typedoc """
  An element type as Nx writes it, such as `{:f, 32}`: its kind and its size in bits.
  """
  @type dtype :: {:u | :s | :f | :f8_e4m3fn | :bf | :c, pos_integer()}

  @typedoc "The size of each axis."
  @type shape :: [non_neg_integer()]

  @doc """
  Makes a tensor of the elements in `binary`.

  The elements are in row-major order and in the host's byte order, as in `Nx.from_binary/2`. Those of
  2 and 4 bits lie beside each other, the first one in the highest bits of the first byte, as in an
  Elixir bitstring; what they leave of the last byte is ignored.

  Where there is no GPU, a binary of 32 KiB or more is not copied: the tensor, and what is made of it without
  a copy of its own, read it in place, however large it is, and keep it. A part of a larger binary keeps
  all of that, as it does everywhere on the BEAM; `:binary.copy/1` makes a binary of the part alone. What
  does not begin at a multiple of 8 bytes in memory, or has elements that MLX does not have, is copied.

  Raises `ArgumentError` if the size of `binary` is not what `shape` and `dtype` ask for.

  ## Examples

      iex> t = Emily.from_binary(<<1, 2, 3, 4, 5, 6>>, [2, 3], {:u, 8})
      iex> {Emily.shape(t), Emily.dtype(t)}
      {[2, 3], {:u, 8}}

      iex> t = Emily.from_binary(<<1::4, -2::4, 7::4, 0::4>>, [3], {:s, 4})
      iex> <<elements::bits-12, _rest::4>> = Emily.to_binary(Emily.op(:negate, [t]))
      iex> for <<element::signed-4 <- elements>>, do: element
      [-1, 2, -7]

      iex> Emily.from_binary(<<1, 2, 3>>, [2], {:u, 8})
      ** (ArgumentError) expected :binary to be 2 bytes for u8[2], got: 3 bytes
  """
  @spec from_binary(binary(), shape(), dtype()) :: t()
  def from_binary(binary, shape, dtype),
    do: from_binary(binary, shape, dtype, Stream.reference())

  @doc false
  def from_binary(binary, shape, dtype, stream)
      when is_binary(binary) and not is_large(binary, dtype),
      do: Native.from_binary(stream, binary, shape, dtype)

  def from_binary(binary, shape, dtype, stream) when is_binary(binary) do
    head = binary_part(binary, 0, @head_bytes)

    tensor =
      with :copy <- Native.adopt_binary(stream, binary, head, shape, dtype),
           do: Native.copy_binary(stream, binary, shape, dtype)

    Pressure.relieve()
    tensor
  end

  def from_binary(other, _shape, _dtype, _stream) do
    raise ArgumentError, "expected :binary to be a binary, got: #{inspect(other)}"
  end

  @doc """
  Returns the elements of `tensor` as a binary, computing them first if need be.

  The elements are in row-major order and in the host's byte order. Nothing is copied when they
  already lie that way: the binary is MLX's own memory, and keeps it alive. Only elements of types that
  MLX does not have are written anew, packed as `from_binary/3` takes them; what those of 2 and 4 bits
  leave of the last byte is zeros.

  Raises `Emily.Error` if MLX cannot compute the tensor.
  """
  @spec to_binary(t()) :: binary()
  def to_binary(tensor), do: to_binary(tensor, nil)

  @doc false
  # The device is for whoever observes.
  def to_binary(tensor, device) do
    reference = make_ref()

    case Native.read(tensor, reference) do
      {:ok, binary} -> binary
      :pending -> Observer.wait(:to_binary, tensor, device, fn -> await(reference) end)
    end
  end

  @doc """
  Returns the size of each axis of `tensor`, without computing it.
  """
  @spec shape(t()) :: shape()
  def shape(tensor), do: tensor |> Native.tensor_type() |> elem(1)

  @doc """
  Returns the element type of `tensor`, without computing it.
  """
  @spec dtype(t()) :: dtype()
  def dtype(tensor), do: tensor |> Native.tensor_type() |> elem(0)

  @doc """
  Computes `tensor` and everything that it depends on, and waits until that is done.

  Raises `Emily.Error` if MLX fails.
  """
  @spec eval(t()) :: :ok
  def eval(tensor), do: eval(tensor, nil)

  @doc false
  def eval(tensor, device) do
    reference = make_ref()

    case Native.eval(tensor, reference) do
      :ok -> :ok
      :pending -> Observer.wait(:eval, tensor, device, fn -> await(reference) end)
    end
  end

  @doc """
  Begins to compute `tensor` and everything that it depends on, and returns at once.

  Whoever reads the tensor later waits for what is left of it, and gets the error if MLX failed. If no
  process holds the tensor any more when its turn comes, it is not computed.

      iex> t = Emily.op(:iota, [], type: {:u, 8}, shape: [3])
      iex> Emily.async_eval(t)
      :ok
      iex> Emily.to_binary(t)
      <<0, 1, 2>>
  """
  @spec async_eval(t()) :: :ok
  def async_eval(tensor), do: Native.async_eval(tensor)

  @doc false
  def address(tensor) do
    reference = make_ref()
    :pending = Native.address(tensor, reference)
    await(reference)
  end

  @doc """
  Applies the operation `name` to `inputs`; the result is computed when it is needed.

  `name` is the operation's name in Nx. Inputs of different types are merged, and shapes broadcast,
  as there. Operations with several results give a tuple.

  ## Options

    * `:type` and `:shape` - what the result is to have. Operations whose inputs do not tell it need
      them: `:constant`, `:iota` and `:eye` both, `:as_type` and `:bitcast` the type, `:reshape`, `:squeeze` and
      `:broadcast` the shape. For others they are checked.

  All other options are the operation's attributes:

  | operations | attributes |
  | --- | --- |
  | `:constant` | `value` (a number, `:nan`, `:infinity`, `:neg_infinity` or `{real, imaginary}`) |
  | `:iota` | `axis` (`nil` counts in row-major order) |
  | `:broadcast` | `axes`: input axis `i` becomes axis `axes[i]` of the result |
  | `:transpose`, `:reverse` | `axes` |
  | `:slice` | `starts`, `lengths`, `strides` |
  | `:concatenate`, `:stack` | `axis` |
  | `:pad` | `padding`: a `{low, high, interior}` for each axis |
  | `:dynamic_slice` | `lengths`, `strides`; the starts are inputs |
  | `:put_slice` | `starts`; those of `:dynamic_put_slice` are inputs |
  | `:gather`, `:indexed_add`, `:indexed_put` | `axes` |
  | `:take`, `:take_along_axis` | `axis` |
  | `:sum`, `:product`, `:reduce_max`, `:reduce_min`, `:all`, `:any` | `axes` (`nil` for all), `keep_axes` |
  | `:argmax`, `:argmin` | `axis` (`nil` for all), `keep_axis`, `tie_break` (`:low` or `:high`) |
  | `:all_close` | `equal_nan`, `rtol`, `atol` |
  | `:cumulative_sum`, `:cumulative_product`, `:cumulative_min`, `:cumulative_max` | `axis`, `reverse` |
  | `:dot` | `contract_a`, `batch_a`, `contract_b`, `batch_b` |
  | `:sort`, `:argsort` | `axis`, `direction` (`:asc` or `:desc`) |
  | `:top_k` | `k` |
  | `:window_sum`, `:window_product`, `:window_max`, `:window_min` | `window`, `padding` (pairs), `strides`, `window_dilations`: an entry an axis |
  | `:window_scatter_max`, `:window_scatter_min` | `window`, `padding` (pairs), `strides`: an entry an axis |
  | `:conv` | `padding` (pairs), `strides`, `input_dilation`, `kernel_dilation`: an entry a spatial axis; `feature_group_size`, `batch_group_size`, `input_permutation`, `kernel_permutation`, `output_permutation` |
  | `:fft`, `:ifft`, `:rfft`, `:irfft` | `axis`, `length`, `eps` |
  | `:fft2`, `:ifft2` | `axes`, `lengths`, `eps` |
  | `:triangular_solve` | `lower`, `left_side`, `transform_a` (`:none`, `:transpose` or `:conjugate`) |
  | `:qr` | `mode` (`:reduced` or `:complete`) |
  | `:svd` | `full_matrices` |

  Attributes have Nx's defaults where Nx has one.

  Raises `ArgumentError` if the operation is unknown or its inputs or attributes do not fit.

  ## Examples

      iex> t = Emily.from_binary(<<1, 2, 3, 4, 5, 6>>, [2, 3], {:u, 8})
      iex> Emily.to_binary(Emily.op(:reduce_max, [t], axes: [1]))
      <<3, 6>>

      iex> row = Emily.op(:iota, [], type: {:u, 8}, shape: [3])
      iex> Emily.to_binary(row)
      <<0, 1, 2>>

      iex> Emily.op(:frobnicate, [])
      ** (ArgumentError) expected an operation that Emily has, with its attributes, got: :frobnicate
  """
  @spec op(atom(), [t()], keyword()) :: t() | tuple()
  def op(name, inputs, options \\ [])

  def op(name, inputs, []), do: Native.op(Stream.reference(), operation(name, []), nil, inputs)

  def op(name, inputs, options) when is_list(options) do
    {out, attributes} = Keyword.split(options, [:type, :shape])
    Native.op(Stream.reference(), operation(name, attributes), output(inputs, out), inputs)
  end

  # Functions need what the bare build has not.
  @compile {:no_warn_undefined, Emily.Program}

  @doc """
  Writes a function with its weights to a folder; see `Emily.Program.export/4`.
  """
  @spec export(function(), [term()], Path.t(), keyword()) :: :ok
  defdelegate export(fun, arguments, path, options \\ []), to: Emily.Program

  @doc """
  Reads a function that `export/4` has written; see `Emily.Program.import/2`.
  """
  @spec import(Path.t(), keyword()) :: function()
  defdelegate import(path, options \\ []), to: Emily.Program

  @doc false
  # The answer that a stream's thread sends.
  def await(reference) do
    receive do
      {^reference, {:ok, result}} ->
        Pressure.relieve()
        result

      {^reference, {:error, exception}} ->
        raise exception
    end
  end

  # Operations with attributes, and Nx's defaults of these.
  @reduction [axes: nil, keep_axes: false]
  @extreme [axis: nil, keep_axis: false, tie_break: :low]
  @order [axis: 0, direction: :asc]
  @transform [eps: 1.0e-10]
  @cumulative [axis: 0, reverse: false]
  @defaults %{
    constant: [],
    iota: [axis: nil],
    broadcast: [],
    transpose: [],
    reverse: [],
    slice: [],
    concatenate: [axis: 0],
    stack: [axis: 0],
    pad: [],
    dynamic_slice: [],
    put_slice: [],
    gather: [],
    indexed_add: [],
    indexed_put: [],
    take: [axis: 0],
    take_along_axis: [axis: 0],
    sum: @reduction,
    product: @reduction,
    reduce_max: @reduction,
    reduce_min: @reduction,
    all: @reduction,
    any: @reduction,
    argmax: @extreme,
    argmin: @extreme,
    attention: [sinks: false],
    all_close: [equal_nan: false, rtol: 1.0e-5, atol: 1.0e-8],
    cumulative_sum: @cumulative,
    cumulative_product: @cumulative,
    cumulative_min: @cumulative,
    cumulative_max: @cumulative,
    dot: [batch_a: [], batch_b: []],
    sort: @order,
    argsort: @order,
    top_k: [k: 1],
    conv: [feature_group_size: 1, batch_group_size: 1],
    fft: @transform,
    ifft: @transform,
    rfft: @transform,
    irfft: @transform,
    fft2: @transform,
    ifft2: @transform,
    triangular_solve: [lower: true, left_side: true, transform_a: :none],
    qr: [mode: :reduced],
    svd: [full_matrices: true]
  }

  defp operation(name, attributes) do
    case @defaults do
      %{^name => defaults} -> {name, Map.new(Keyword.merge(defaults, attributes))}
      _ when attributes == [] -> name
      _ -> {name, Map.new(attributes)}
    end
  end

  defp output(_inputs, []), do: nil

  defp output(inputs, out) do
    like = List.first(inputs)

    {Keyword.get_lazy(out, :type, fn -> like && dtype(like) end),
     Keyword.get_lazy(out, :shape, fn -> like && shape(like) end)}
  end
end
