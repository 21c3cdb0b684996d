defmodule Emily.Backend do
  @moduledoc """
  Nx on MLX: a backend for every operation of Nx.

      Nx.default_backend(Emily.Backend)
      Nx.add(Nx.tensor([1, 2]), 3)

  Tensors are lazy: an operation is noted at once, and computed on a thread of Emily's own when
  somebody reads it, or asks for that with `eval/1` or `async_eval/1`. Tensors of other backends that
  an operation meets are moved over.

  ## Options

    * `:device` - `:cpu` or `:gpu`; the GPU where there is one, when absent

  Results are on the device of the operation's first tensor.

  ## Nodes

  A tensor is memory of the node that made it. On another one, or from a file, it is refused with an
  `ArgumentError`: send what `Nx.backend_copy/1` gives, and save what `Nx.serialize/2` gives.

  ## Types

  All of Nx's types but `:c128`; `:f64` on the CPU alone.
  """

  @behaviour Nx.Backend

  alias Emily.Backend, as: B
  alias Emily.Backend.{Bits, Device, Evaluation}
  alias Emily.{Fallback, Native, Operation, Reducer, Settings, Telemetry}
  alias Emily.Reducer.Fold
  alias Nx.Tensor, as: T

  @enforce_keys [:ref, :device]
  defstruct [:ref, :device]

  @typedoc "The native tensor, and where it is computed."
  @type t :: %__MODULE__{ref: Emily.t(), device: :cpu | :gpu}

  @impl true
  def init(options) do
    case Keyword.validate(options, [:device]) do
      {:ok, options} ->
        Device.validate!(options[:device])
        options

      {:error, unknown} ->
        raise ArgumentError,
              "expected the options of Emily.Backend to be :device, got: #{inspect(unknown)}"
    end
  end

  ## Creation

  # A scalar is there at once, as one that is an operation's result would not be: the core can look at
  # it, and reading it takes no thread.
  @impl true
  def constant(%T{shape: {}} = out, number, options) do
    scalar = Nx.BinaryBackend.constant(out, number, [])
    from_binary(out, Nx.BinaryBackend.to_binary(scalar, 1), options)
  end

  def constant(out, number, options), do: create(:constant, out, [number], options)

  @impl true
  def eye(out, options), do: create(:eye, out, [], options)

  @impl true
  def iota(out, axis, options), do: create(:iota, out, [axis], options)

  @impl true
  def from_binary(%T{type: type, shape: shape} = out, binary, options) do
    device = Device.of_options(options)
    bytes = Bits.to_bytes(binary)
    ref = Emily.from_binary(bytes, Tuple.to_list(shape), type, Device.stream(device))
    put(out, ref, device)
  end

  defp create(name, out, arguments, options) do
    {operation, []} = Operation.split(name, arguments)
    apply_to(operation, out, [], Device.of_options(options))
  end

  ## Reading

  @impl true
  def to_binary(%T{type: type} = tensor, limit) do
    size = size(tensor)
    tensor = if limit < size, do: first(tensor, size, limit), else: tensor

    tensor.data.ref
    |> Emily.to_binary(tensor.data.device)
    |> Bits.of_bytes(min(size, limit), type)
  end

  # Only what is asked for is computed into row-major order and brought over.
  defp first(tensor, size, limit) do
    flat = %{tensor | shape: {size}, names: [nil], vectorized_axes: []}
    slice(%{flat | shape: {limit}}, reshape(flat, tensor), [0], [limit], [1])
  end

  # Nx keeps vectorized axes apart from the shape, and the native tensor has them all.
  defp size(%T{shape: shape, vectorized_axes: []}), do: Tuple.product(shape)

  defp size(%T{shape: shape, vectorized_axes: axes}),
    do: Enum.reduce(axes, Tuple.product(shape), fn {_name, size}, product -> size * product end)

  @impl true
  def inspect(%T{data: %B{ref: ref, device: device}} = tensor, options) do
    shown =
      case Native.presence(ref) do
        :live -> elements(tensor, options)
        :deallocated -> "Deallocated"
        :elsewhere -> "Not here: #{whereabouts(node(ref))}"
      end

    if Settings.load().add_backend_on_inspect do
      Inspect.Algebra.concat(["Emily.Backend<#{device}>", Inspect.Algebra.line(), shown])
    else
      shown
    end
  end

  defp whereabouts(node) when node == node(), do: "of an earlier time of this node"
  defp whereabouts(node), do: "of the node #{node}"

  defp elements(tensor, %Inspect.Opts{limit: limit} = options) do
    size = size(tensor)
    binary = to_binary(tensor, if(limit == :infinity, do: size, else: min(size, limit + 1)))
    Nx.Backend.inspect(tensor, binary, options)
  end

  @impl true
  def to_batched(%T{shape: batch} = out, %T{shape: shape} = tensor, options) do
    length = elem(batch, 0)
    size = elem(shape, 0)
    lengths = Tuple.to_list(batch)
    ones = List.duplicate(1, tuple_size(shape))
    at = fn start -> [start | List.duplicate(0, tuple_size(shape) - 1)] end
    part = fn out, start, lengths -> slice(out, tensor, at.(start), lengths, ones) end

    whole = for index <- 0..(div(size, length) - 1), do: {:whole, index * length}
    rest = rem(size, length)
    last = if rest > 0 and options[:leftover] == :repeat, do: [{:rest, size - rest}], else: []

    Stream.map(whole ++ last, fn
      {:whole, start} ->
        part.(out, start, lengths)

      {:rest, start} ->
        tail = part.(%{out | shape: put_elem(batch, 0, rest)}, start, [rest | tl(lengths)])
        missing = length - rest
        head = part.(%{out | shape: put_elem(batch, 0, missing)}, 0, [missing | tl(lengths)])
        concatenate(out, [tail, head], 0)
    end)
  end

  ## Computing

  @doc """
  Computes what Nx's functions returned, waits until that is done, and returns it.

  Takes a tensor, or whatever Nx takes as one: tuples, maps and structs of them, and all that
  implements `Nx.Container` or `Nx.LazyContainer`. Tensors of other backends are passed over. To
  evaluate a container at once costs less than to evaluate its tensors one by one.

  Nobody needs this to get the right numbers. It says when they are computed: before a clock is read,
  say, or at the end of a training step, so that the next one does not begin with a long graph.

      iex> t = Nx.iota({3}, backend: Emily.Backend)
      iex> {sum, %{double: double}} = Emily.Backend.eval({Nx.sum(t), %{double: Nx.multiply(t, 2)}})
      iex> {Nx.to_number(sum), Nx.to_flat_list(double)}
      {3, [0, 2, 4]}

  Raises `Emily.Error` if MLX cannot compute a tensor, and `Protocol.UndefinedError` if the argument is
  no container.
  """
  @spec eval(container) :: container when container: Nx.LazyContainer.t()
  defdelegate eval(container), to: Evaluation, as: :finish

  @doc """
  Begins to compute what Nx's functions returned, and returns it at once.

  Takes what `eval/1` takes. Whoever reads a tensor later waits for what is left of it, and gets the
  error if MLX cannot compute it.

      iex> t = Nx.iota({3}, backend: Emily.Backend) |> Nx.add(1) |> Emily.Backend.async_eval()
      iex> Nx.to_flat_list(t)
      [1, 2, 3]
  """
  @spec async_eval(container) :: container when container: Nx.LazyContainer.t()
  defdelegate async_eval(container), to: Evaluation, as: :begin

  ## Moving

  @impl true
  def backend_copy(%T{} = tensor, backend, _options)
      when backend in [Nx.Tensor, Nx.BinaryBackend],
      do: Nx.BinaryBackend.from_binary(tensor, whole(tensor), [])

  def backend_copy(%T{data: %B{device: device}} = tensor, B, options) do
    case Device.of_options(options) do
      ^device -> apply_to(:as_type, tensor, [tensor], device)
      _other -> from_binary(tensor, whole(tensor), options)
    end
  end

  def backend_copy(tensor, backend, options),
    do: backend.from_binary(tensor, whole(tensor), options)

  @impl true
  def backend_transfer(%T{data: %B{ref: ref, device: device}} = tensor, B, options) do
    # There may be nothing to transfer, as where it is another node's.
    _type = Native.tensor_type(ref)

    case Device.of_options(options) do
      ^device -> tensor
      _other -> moved(tensor, B, options)
    end
  end

  def backend_transfer(tensor, backend, options), do: moved(tensor, backend, options)

  defp moved(tensor, backend, options) do
    copy = backend_copy(tensor, backend, options)
    backend_deallocate(tensor)
    copy
  end

  defp whole(tensor), do: to_binary(tensor, size(tensor))

  @impl true
  def backend_deallocate(%T{data: %B{ref: ref}}), do: Native.deallocate(ref)

  @impl true
  def to_pointer(%T{data: %B{ref: ref, device: device}} = tensor, options) do
    case {Keyword.get(options, :mode, :local), device} do
      {:local, :cpu} ->
        size = div(size(tensor) * elem(tensor.type, 1), 8)
        %Nx.Pointer{kind: :local, address: Emily.address(ref), data_size: size}

      {mode, device} ->
        raise ArgumentError,
              "expected :mode to be :local, for a tensor on :cpu, " <>
                "got: #{inspect(mode)}, for one on #{inspect(device)}"
    end
  end

  @impl true
  def from_pointer(%Nx.Pointer{kind: :local} = pointer, type, shape, backend_options, options) do
    device = backend_options |> init() |> Device.of_options()
    out = Nx.template(shape, type, names: options[:names])
    size = div(Tuple.product(shape) * elem(out.type, 1) + 7, 8)

    if pointer.data_size not in [nil, size] do
      raise ArgumentError,
            "expected the pointer to #{inspect(out.type)} of shape #{inspect(shape)} to have " <>
              "#{size} bytes, got: #{pointer.data_size}"
    end

    sizes = Tuple.to_list(shape)
    put(out, Native.from_address(Device.stream(device), pointer.address, sizes, out.type), device)
  end

  def from_pointer(pointer, _type, _shape, _backend_options, _options) do
    raise ArgumentError, "expected an Nx.Pointer of the kind :local, got: #{inspect(pointer)}"
  end

  ## Operations

  creation = [:constant, :eye, :iota]
  with_function = [:reduce, :window_reduce]

  for {name, arity} <- Operation.all(), name not in (creation ++ with_function) do
    arguments = Macro.generate_arguments(arity, __MODULE__)

    @impl true
    def unquote(name)(out, unquote_splicing(arguments)) do
      {operation, inputs} = Operation.split(unquote(name), unquote(arguments))
      apply_to(operation, out, inputs, device(inputs))
    end
  end

  @impl true
  def reduce(out, tensor, acc, options, fun) do
    with_function(:reduce, out, [tensor, acc, options], fun,
      fold: &Fold.reduce(out, tensor, acc, options[:axes], &1),
      fallback: fn [tensor, acc] ->
        Nx.BinaryBackend.reduce(out, tensor, acc, options, there(fun))
      end
    )
  end

  @impl true
  def window_reduce(out, tensor, acc, window, options, fun) do
    with_function(:window_reduce, out, [tensor, acc, window, options], fun,
      fold: &Fold.window_reduce(out, tensor, acc, window, options, &1),
      fallback: fn [tensor, acc] ->
        Nx.BinaryBackend.window_reduce(out, tensor, acc, window, options, there(fun))
      end
    )
  end

  # As one program of the native core, else called with vectorized tensors. `Nx.Defn.Evaluator` calls
  # backends and not Nx, so what it makes of a defn's function does not know vectorized tensors.
  defp with_function(name, out, [tensor, acc | _options] = arguments, fun, ways) do
    inputs = [tensor, acc]

    case Reducer.trace(fun, out.type) do
      {:ok, program} ->
        {operation, inputs} = Operation.split(name, arguments ++ [program])
        apply_to(operation, out, inputs, device(inputs))

      {:error, reason} ->
        if Function.info(fun, :module) == {:module, Nx.Defn.Evaluator},
          do: Fallback.run({name, "of its function: #{reason}"}, inputs, ways[:fallback]),
          else: ways[:fold].(fun)
    end
  end

  # The function may hold tensors of this backend, and then gives such.
  defp there(fun),
    do: fn one, other -> one |> fun.(other) |> Nx.backend_copy(Nx.BinaryBackend) end

  @impl true
  def block(block, out, arguments, default) do
    case Operation.block(block, arguments) do
      {operation, inputs} -> apply_to(operation, out, inputs, device(inputs))
      :unknown -> by_default(block, arguments, default)
    end
  end

  defp by_default(block, arguments, default) do
    Telemetry.block_fallback(block, arguments, device(arguments))
    apply(default, [block | arguments])
  end

  # The device of the first tensor that is Emily's. Nx calls this backend only if there is one.
  defp device([%T{data: %B{device: device}} | _inputs]), do: device
  defp device([_other | inputs]), do: device(inputs)

  defp apply_to(operation, %T{type: type, shape: shape} = out, inputs, device) do
    stream = Device.stream(device)
    told = {type, Tuple.to_list(shape)}
    put(out, Native.op(stream, operation, told, references(inputs, device)), device)
  end

  defp apply_to(operation, outs, inputs, device) when is_tuple(outs) do
    outs = Tuple.to_list(outs)
    told = for out <- outs, do: {out.type, Tuple.to_list(out.shape)}
    results = Native.op(Device.stream(device), operation, told, references(inputs, device))

    outs
    |> Enum.zip_with(Tuple.to_list(results), &put(&1, &2, device))
    |> List.to_tuple()
  end

  defp put(out, ref, device), do: %{out | data: %B{ref: ref, device: device}}

  defp references([], _device), do: []

  defp references([input | inputs], device),
    do: [reference(input, device) | references(inputs, device)]

  @doc false
  # The native tensor of a tensor of whatever backend, for work on a device.
  def reference(%T{data: %B{ref: ref}}, _device), do: ref

  def reference(integer, device) when is_integer(integer) do
    Native.from_binary(Device.stream(device), <<integer::64-signed-native>>, [], {:s, 64})
  end

  def reference(%T{} = foreign, device) do
    flat = Nx.devectorize(foreign)
    from_binary(flat, Nx.to_binary(flat), device: device).data.ref
  end
end
