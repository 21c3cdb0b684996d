defmodule Emily.Operation do
  @moduledoc """
  How the arguments of each of Nx's operations divide into tensors and attributes.

  `split/2` takes what `Nx.Backend`'s callback of that name gets after the output, which is also what
  a node of `Nx.Defn.Expr` carries, and `block/2` takes an `Nx.Block`. Both return the operation as
  `Emily.Native` takes it, and its inputs in order. They read the tensors' shapes and never their
  elements, so that an eager call and a traced one divide alike.

  An input is a tensor, or an integer in the place of one: the caller makes a scalar of it. Where the
  configuration has `Emily.Debug` look at values, operations come with what must hold of them.

      iex> t = Nx.template({2, 3}, :f32)
      iex> {operation, [^t]} = Emily.Operation.split(:sum, [t, [axes: [1], keep_axes: false]])
      iex> operation
      {:sum, %{axes: [1], keep_axes: false}}
  """

  import Emily.Debug, only: [checked: 1]

  alias Emily.{Fast, Quantization}
  alias Nx.Block
  alias Nx.Block.LinAlg

  @typedoc "An operation of the native core, with its attributes if it has any."
  @type t :: atom() | {atom(), %{atom() => term()}}

  @typedoc "A tensor, or the integer that a scalar is to be made of."
  @type input :: Nx.Tensor.t() | integer()

  @one_tensor ~w(exp expm1 log log1p sigmoid cos sin tan cosh sinh tanh acos asin atan acosh asinh
                 atanh sqrt rsqrt cbrt erf erfc erf_inv abs bitwise_not ceil conjugate floor negate
                 round sign count_leading_zeros population_count real imag is_nan is_infinity
                 as_type bitcast reshape)a

  @two_tensors ~w(add subtract multiply pow remainder divide atan2 min max quotient bitwise_and
                  bitwise_or bitwise_xor left_shift right_shift equal not_equal greater less
                  greater_equal less_equal logical_and logical_or logical_xor)a

  @reduction [:tensor, options: [:axes, keep_axes: false]]
  @extreme [:tensor, options: [:axis, :tie_break, keep_axis: false]]
  @order [:tensor, options: [:axis, :direction]]
  @window [:tensor, sizes: :window, options: [:padding, :strides, :window_dilations]]
  @window_scatter [:tensor, :tensor, :tensor, sizes: :window, options: [:padding, :strides]]
  @fourier [:tensor, options: [:axis, :length, :eps]]

  # What each argument is: `:tensor`, or a list of `:tensors`; `attribute: name` as it comes;
  # `sizes: name` a tuple that becomes a list; `options: names` a keyword list of which these are
  # attributes, with what nil stands for. What the output's type and shape tell already is `:told`.
  @table for(name <- @one_tensor, do: {name, [:tensor]}) ++
           for(name <- @two_tensors, do: {name, [:tensor, :tensor]}) ++
           [
             eye: [],
             iota: [attribute: :axis],
             squeeze: [:tensor, :told],
             broadcast: [:tensor, :told, attribute: :axes],
             transpose: [:tensor, attribute: :axes],
             pad: [:tensor, :tensor, attribute: :padding],
             reverse: [:tensor, attribute: :axes],
             concatenate: [:tensors, attribute: :axis],
             stack: [:tensors, attribute: :axis],
             select: [:tensor, :tensor, :tensor],
             clip: [:tensor, :tensor, :tensor],
             dot: [
               :tensor,
               {:attribute, :contract_a},
               {:attribute, :batch_a},
               :tensor,
               {:attribute, :contract_b},
               {:attribute, :batch_b}
             ],
             conv: [
               :tensor,
               :tensor,
               options: [
                 :padding,
                 :strides,
                 :input_dilation,
                 :kernel_dilation,
                 :feature_group_size,
                 :batch_group_size,
                 :input_permutation,
                 :kernel_permutation,
                 :output_permutation
               ]
             ],
             reduce: [:tensor, :tensor, options: [:axes, :keep_axes], attribute: :fun],
             window_reduce: [
               :tensor,
               :tensor,
               sizes: :window,
               options: [:padding, :strides, :window_dilations],
               attribute: :fun
             ],
             gather: [:tensor, :tensor, options: [:axes]],
             indexed_add: [:tensor, :tensor, :tensor, options: [:axes]],
             indexed_put: [:tensor, :tensor, :tensor, options: [:axes]],
             all: @reduction,
             any: @reduction,
             sum: @reduction,
             product: @reduction,
             reduce_max: @reduction,
             reduce_min: @reduction,
             argmax: @extreme,
             argmin: @extreme,
             sort: @order,
             argsort: @order,
             window_sum: @window,
             window_product: @window,
             window_max: @window,
             window_min: @window,
             window_scatter_max: @window_scatter,
             window_scatter_min: @window_scatter,
             triangular_solve: [
               :tensor,
               :tensor,
               options: [:lower, :left_side, :transform_a]
             ],
             fft: @fourier,
             ifft: @fourier
           ]

  @irregular [constant: 1, slice: 4, put_slice: 3]

  @doc """
  Every operation that `split/2` knows, with its number of arguments.
  """
  @spec all() :: [{atom(), non_neg_integer()}]
  def all do
    for({name, arguments} <- @table, do: {name, length(arguments)}) ++ @irregular
  end

  @elementwise (@one_tensor -- [:bitcast, :reshape]) ++
                 @two_tensors ++ [:constant, :select, :clip, :logical_not, :phase]

  @doc """
  Whether each element of the result comes from the inputs' elements at the same place.
  """
  @spec elementwise?(atom()) :: boolean()
  def elementwise?(name), do: name in @elementwise

  @doc """
  Divides the arguments of the operation `name`.
  """
  @spec split(atom(), [term()]) :: {t(), [input()]}
  def split(name, arguments)

  for {name, kinds} <- @table do
    arguments = Macro.generate_arguments(length(kinds), __MODULE__)
    pairs = Enum.zip(kinds, arguments)

    attributes =
      Enum.flat_map(pairs, fn
        {{:attribute, key}, argument} ->
          [{key, argument}]

        {{:sizes, key}, argument} ->
          [{key, quote(do: Tuple.to_list(unquote(argument)))}]

        {{:options, keys}, argument} ->
          Enum.map(keys, fn
            :eps ->
              {:eps, quote(do: float(unquote(argument)[:eps]))}

            {key, default} ->
              {key, quote(do: unquote(argument)[unquote(key)] || unquote(default))}

            key ->
              {key, quote(do: unquote(argument)[unquote(key)])}
          end)

        _other ->
          []
      end)

    operation = if attributes == [], do: name, else: {name, {:%{}, [], attributes}}

    inputs =
      case pairs do
        [{:tensors, list} | _attributes] -> list
        _other -> for {:tensor, argument} <- pairs, do: argument
      end

    told = for {:told, argument} <- pairs, do: quote(do: _ = unquote(argument))

    def split(unquote(name), unquote(arguments)) do
      unquote_splicing(told)
      {checked(unquote(operation)), unquote(inputs)}
    end
  end

  def split(:constant, [number]), do: {{:constant, %{value: value(number)}}, []}

  # Nx moves a slice that would reach beyond the tensor back into it.
  def split(:slice, [tensor, starts, lengths, strides]) do
    if Enum.all?(starts, &is_integer/1) do
      starts = within(starts, tensor.shape, lengths)
      {{:slice, %{starts: starts, lengths: lengths, strides: strides}}, [tensor]}
    else
      {{:dynamic_slice, %{lengths: lengths, strides: strides}}, [tensor | starts]}
    end
  end

  def split(:put_slice, [tensor, starts, slice]) do
    if Enum.all?(starts, &is_integer/1) do
      starts = within(starts, tensor.shape, Tuple.to_list(slice.shape))
      {{:put_slice, %{starts: starts}}, [tensor, slice]}
    else
      {:dynamic_put_slice, [tensor, slice | starts]}
    end
  end

  @doc """
  Divides the arguments of a block of Nx, `Emily.Fast` or `Emily.Quantization`; `:unknown` if it is none of these.
  """
  @spec block(struct(), [term()]) :: {t(), [input()]} | :unknown
  def block(block, arguments) do
    case of_block(block) do
      :unknown -> :unknown
      operation -> {checked(operation), Enum.take_while(arguments, &(not is_list(&1)))}
    end
  end

  defp of_block(%Block.LogicalNot{}), do: :logical_not
  defp of_block(%Block.Phase{}), do: :phase

  defp of_block(%Block.AllClose{} = block),
    do: attributes(:all_close, block, [:equal_nan, :rtol, :atol])

  defp of_block(%Block.CumulativeSum{} = block), do: cumulative(:cumulative_sum, block)
  defp of_block(%Block.CumulativeProduct{} = block), do: cumulative(:cumulative_product, block)
  defp of_block(%Block.CumulativeMin{} = block), do: cumulative(:cumulative_min, block)
  defp of_block(%Block.CumulativeMax{} = block), do: cumulative(:cumulative_max, block)
  defp of_block(%Block.Take{} = block), do: attributes(:take, block, [:axis])
  defp of_block(%Block.TakeAlongAxis{} = block), do: attributes(:take_along_axis, block, [:axis])
  defp of_block(%Block.TopK{} = block), do: attributes(:top_k, block, [:k])
  defp of_block(%Block.FFT2{} = block), do: attributes(:fft2, block, [:axes, :lengths, :eps])
  defp of_block(%Block.IFFT2{} = block), do: attributes(:ifft2, block, [:axes, :lengths, :eps])
  defp of_block(%Block.RFFT{} = block), do: attributes(:rfft, block, [:axis, :length, :eps])
  defp of_block(%Block.IRFFT{} = block), do: attributes(:irfft, block, [:axis, :length, :eps])
  defp of_block(%LinAlg.Cholesky{}), do: :cholesky
  defp of_block(%LinAlg.Solve{}), do: :solve
  defp of_block(%LinAlg.QR{} = block), do: attributes(:qr, block, [:mode])
  defp of_block(%LinAlg.Eigh{}), do: :eigh
  defp of_block(%LinAlg.SVD{full_matrices?: full}), do: {:svd, %{full_matrices: full}}
  defp of_block(%LinAlg.LU{}), do: :lu
  defp of_block(%LinAlg.Determinant{}), do: :determinant
  defp of_block(%Fast.RmsNorm{} = block), do: attributes(:rms_norm, block, [:epsilon])
  defp of_block(%Fast.LayerNorm{} = block), do: attributes(:layer_norm, block, [:epsilon])
  defp of_block(%Fast.Attention{} = block), do: attributes(:attention, block, [:scale, :sinks])

  defp of_block(%Fast.Rope{} = block),
    do: attributes(:rope, block, [:dims, :traditional, :base, :scale])

  defp of_block(%Quantization.Quantize{} = block), do: quantized(:quantize, block, [])
  defp of_block(%Quantization.Dequantize{} = block), do: quantized(:dequantize, block, [])

  defp of_block(%Quantization.Product{} = block),
    do: quantized(:quantized_matmul, block, [:transpose, :exact])

  defp of_block(%Quantization.Gather{} = block),
    do: quantized(:gather_qmm, block, [:transpose, :left, :right, :sorted])

  defp of_block(_other), do: :unknown

  defp quantized(name, block, keys),
    do: attributes(name, block, [:mode, :bits, :group_size | keys])

  defp cumulative(name, block), do: attributes(name, block, [:axis, :reverse])

  # Where the core takes floats, Nx also takes integers, and anything for a boolean.
  defp attributes(name, block, keys) do
    {name,
     Map.new(keys, fn
       key when key in [:eps, :rtol, :atol] -> {key, float(Map.fetch!(block, key))}
       :equal_nan -> {:equal_nan, !!Map.fetch!(block, :equal_nan)}
       key -> {key, Map.fetch!(block, key)}
     end)}
  end

  # Nx's own choice of what to clean up after a Fourier transform.
  defp float(nil), do: 1.0e-10
  defp float(number), do: number * 1.0

  defp within(starts, shape, lengths) do
    [starts, Tuple.to_list(shape), lengths]
    |> Enum.zip_with(fn [start, size, length] -> start |> min(size - length) |> max(0) end)
  end

  defp value(%Complex{re: re, im: im}), do: {re, im}
  defp value(number), do: number
end
