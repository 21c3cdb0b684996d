defmodule Emily.Doctor.Probe do
  @moduledoc """
  What the doctor tries out on the native library: loading it, asking it what it is, computing
  something whose result is known, and timing the CPU.

  It calls `Emily.Native` itself, since it has to say which device computes.
  """

  alias Emily.Backend.Checkup
  alias Emily.Native

  # The bare build has no backend.
  @compile {:no_warn_undefined, Checkup}

  @f32 {:f, 32}

  @doc "Loads the library, and starts what it needs."
  @spec load() :: :ok | {:error, String.t()}
  def load do
    started = Application.ensure_all_started(:emily)

    case {Native.load_error(), started} do
      {nil, {:ok, _apps}} -> :ok
      {nil, {:error, {_app, reason}}} -> {:error, Application.format_error(reason)}
      {reason, _started} -> {:error, reason}
    end
  end

  @doc "The version of MLX and the devices that it finds."
  @spec info() :: {:ok, %{mlx: String.t(), devices: [atom()]}} | {:error, String.t()}
  def info do
    with {:ok, info} <- Native.info(), do: {:ok, Map.take(info, [:mlx, :devices])}
  rescue
    error -> {:error, Exception.message(error)}
  end

  @doc """
  Computes on a device: the sums of the columns of a product of two matrices, all small integers
  that every float type holds exactly. Answers what they are, and what came out.
  """
  @spec smoke(atom()) ::
          {:ok, {expected :: [float()], actual :: [float()]}} | {:error, String.t()}
  def smoke(device) do
    stream = Native.stream_new(device)
    a = Native.from_binary(stream, f32([1, 2, 3, 4, 5, 6]), [2, 3], @f32)
    b = Native.from_binary(stream, f32([1, 2, 3, 4, 5, 6]), [3, 2], @f32)
    # [[22, 28], [49, 64]]
    product = Native.op(stream, dot(), nil, [a, b])
    sums = Native.op(stream, {:sum, %{axes: [0], keep_axes: false}}, nil, [product])
    {:ok, {[71.0, 92.0], for(<<x::32-float-native <- Emily.to_binary(sums)>>, do: x)}}
  rescue
    error -> {:error, Exception.message(error)}
  end

  @doc """
  Asks the backend to compute one operation of each family. Answers their names, and what went wrong
  with which; `:absent` where this build has no backend.
  """
  @spec backend() ::
          {:ok, [String.t()], [{name :: String.t(), problem :: String.t()}]} | :absent
  def backend, do: if(Code.ensure_loaded?(Checkup), do: Checkup.run(), else: :absent)

  # Large enough that the hop to the stream's thread does not count, small enough that a
  # reference BLAS takes a fraction of a second for all rounds.
  @side 384
  @passes 16
  @rounds 8

  @doc """
  Measures the CPU: the operations a nanosecond of a matrix product, and of a chain of element-wise
  passes over a matrix of the same size.

  Each is the best of a few rounds that take turns, so that what else the machine does in between
  spoils neither. Every round gives its memory back before the next: fresh memory would cost the
  passes more time than their arithmetic, and flatter the product.
  """
  @spec matmul_rates() :: %{matmul: float(), elementwise: float()}
  def matmul_rates do
    stream = Native.stream_new(:cpu)
    # Ones: products of anything smaller would run into denormal numbers, which are slow.
    ones = :binary.copy(f32([1]), @side * @side)
    matrix = Native.from_binary(stream, ones, [@side, @side], @f32)

    rounds =
      for _round <- 1..@rounds do
        times =
          {nanoseconds(Native.op(stream, dot(), nil, [matrix, matrix])),
           nanoseconds(chain(stream, matrix))}

        :erlang.garbage_collect()
        times
      end

    {product, passes} = Enum.unzip(rounds)

    %{
      matmul: 2 * @side ** 3 / Enum.min(product),
      elementwise: @passes * @side ** 2 / Enum.min(passes)
    }
  end

  defp chain(stream, matrix) do
    Enum.reduce(1..@passes, matrix, fn _pass, last ->
      Native.op(stream, :multiply, nil, [last, matrix])
    end)
  end

  defp nanoseconds(tensor) do
    {time, :ok} = :timer.tc(fn -> Emily.eval(tensor) end, :nanosecond)
    time
  end

  defp dot, do: {:dot, %{contract_a: [1], batch_a: [], contract_b: [0], batch_b: []}}

  defp f32(numbers), do: for(x <- numbers, into: <<>>, do: <<x::32-float-native>>)
end
