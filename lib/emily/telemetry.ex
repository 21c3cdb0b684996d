defmodule Emily.Telemetry do
  @moduledoc """
  What Emily tells `:telemetry` of itself.

  One line logs it, and another puts it on Phoenix LiveDashboard:

      Emily.Telemetry.attach_default_logger(slow: 100)

      def metrics, do: [...] ++ Emily.Telemetry.metrics()

  ## Waiting

  Nothing is computed before somebody needs it, so it is the process that evaluates or reads a tensor
  that waits, and `[:emily, :eval]` and `[:emily, :to_binary]` are spans of such waiting. They contain
  all that the tensor depends on, and what was ahead of it on its stream. A tensor that is
  computed already is no span: to evaluate it does nothing, and to read it takes less time than an event
  would. `Emily.Backend.async_eval/1` waits for nothing, and a computation that fails is the exception
  of whoever waits for it.

  A process that is killed while it waits emits no further event of that span.

  ## Events

  Times are in native time units: `System.convert_time_unit(duration, :native, :millisecond)`.

  #{Emily.Telemetry.Event.tables()}
  """

  @behaviour Emily.Native.Observer

  alias Emily.Native
  alias Emily.Telemetry.{DefaultLogger, Event, Metrics}
  alias Nx.Tensor, as: T

  @doc """
  Returns the names of all events, for `:telemetry.attach_many/4`.

      iex> [:emily, :eval, :stop] in Emily.Telemetry.events()
      true
  """
  @spec events() :: [:telemetry.event_name()]
  def events, do: for(event <- Event.all(), do: event.name)

  @doc """
  Logs Emily's events with `Logger`, a line each: what was computed, read or left to others, its types
  and shapes, and how long that took.

      [info] emily eval of f32[1024][1024] on gpu took 3.2ms
      [info] emily to_binary of s32[8] on gpu took 410µs for 32 B
      [info] emily memory: 12.0 MiB active, 64.0 MiB adopted, 3.5 MiB cache, 96.1 MiB peak

  Returns `{:error, :already_exists}` if that is done already. It ends with `detach_default_logger/0`.

  ## Options

    * `:level` - the level to log at; `:info` when absent. Exceptions are logged at `:error`
    * `:events` - which events to log: any of `:eval`, `:to_binary`, `:fallback`, `:prefill`, `:decode`,
      `:compiler`, `:block` and `:memory`; all when absent
    * `:slow` - leaves out what took less than this many milliseconds; 0 when absent

  Raises `ArgumentError` if an option does not fit.

  ## Examples

      iex> Emily.Telemetry.attach_default_logger(events: [:fallback, :block], level: :warning)
      :ok
      iex> Emily.Telemetry.attach_default_logger()
      {:error, :already_exists}
      iex> Emily.Telemetry.detach_default_logger()
      :ok
  """
  @spec attach_default_logger(keyword()) :: :ok | {:error, :already_exists}
  def attach_default_logger(options \\ []), do: DefaultLogger.attach(options)

  @doc """
  Ends what `attach_default_logger/1` began.

      iex> Emily.Telemetry.detach_default_logger()
      {:error, :not_found}
  """
  @spec detach_default_logger() :: :ok | {:error, :not_found}
  def detach_default_logger, do: DefaultLogger.detach()

  @doc """
  Returns metrics of Emily's events, as `Telemetry.Metrics` defines them: how long processes waited and
  for how many bytes, what failed, what was not computed natively, and memory.

  For the `metrics/0` that Phoenix LiveDashboard and other reporters are given:

      def metrics do
        [
          summary("phoenix.endpoint.stop.duration", unit: {:native, :millisecond})
        ] ++ Emily.Telemetry.metrics()
      end

  Those of memory have values once something calls `memory_stats/0` regularly.

  Raises `Emily.Error` if the project does not depend on `:telemetry_metrics`, which Phoenix projects do.
  """
  @spec metrics() :: [struct()]
  def metrics, do: Metrics.definitions(Telemetry.Metrics)

  @impl true
  @doc false
  def wait(kind, tensor, device, fun) do
    metadata = tensor |> described() |> Map.put(:device, device)
    :telemetry.span([:emily, kind], metadata, fn -> told(kind, fun.(), metadata) end)
  end

  defp told(:eval, :ok, metadata), do: {:ok, metadata}
  defp told(:to_binary, binary, metadata), do: {binary, %{bytes: byte_size(binary)}, metadata}

  # Must not fail, for an answer is on its way to this process.
  defp described(tensor) do
    {type, shape} = Native.tensor_type(tensor)
    %{type: type, shape: List.to_tuple(shape)}
  rescue
    # Another process has deallocated it meanwhile.
    ArgumentError -> %{type: nil, shape: nil}
  end

  @doc false
  # A span of what leaves MLX; `fun` returns its result.
  def fallback({operation, reason}, tensors, device, fun) do
    metadata = %{
      operation: operation,
      reason: reason,
      inputs: inputs(tensors),
      device: device
    }

    :telemetry.span([:emily, :fallback], metadata, fn -> {fun.(), metadata} end)
  end

  @doc false
  # A block that has no native operation runs its default implementation.
  def block_fallback(%module{} = block, arguments, device) do
    metadata = %{block: module, struct: block, inputs: inputs(arguments), device: device}
    :telemetry.execute([:emily, :block, :fallback], %{count: 1}, metadata)
  end

  @doc """
  Emits `[:emily, :compiler, :fallback]`, for a compiler that leaves a function to
  `Nx.Defn.Evaluator`.

  `construct` names what it cannot compile and `reason` says why; `function` is the function's module,
  name and arity where it has a name.

      iex> Emily.Telemetry.compiler_fallback(:hook, "it sends to a process", {MyModel, :step, 2})
      :ok
  """
  @spec compiler_fallback(atom(), String.t(), mfa() | nil) :: :ok
  def compiler_fallback(construct, reason, function \\ nil) do
    metadata = %{construct: construct, reason: reason, function: function}
    :telemetry.execute([:emily, :compiler, :fallback], %{count: 1}, metadata)
  end

  @doc false
  # A function that was to be fused is not.
  def unfused(reason, device) do
    metadata = %{reason: reason, device: device}
    :telemetry.execute([:emily, :compiler, :unfused], %{count: 1}, metadata)
  end

  defp inputs(arguments), do: for(%T{type: type, shape: shape} <- arguments, do: {type, shape})

  @doc false
  # A stretch of a generation begins, which may end in another function than this one; returns when.
  def generation_begins(kind, metadata) do
    now = System.monotonic_time()
    measurements = %{system_time: System.system_time(), monotonic_time: now}
    :telemetry.execute([:emily, kind, :start], measurements, metadata)
    now
  end

  @doc false
  def generation_ends(kind, began, measurements, metadata),
    do: :telemetry.execute([:emily, kind, :stop], ended(began, measurements), metadata)

  @doc false
  def generation_fails(kind, began, metadata),
    do: :telemetry.execute([:emily, kind, :exception], ended(began, %{}), metadata)

  defp ended(began, measurements) do
    now = System.monotonic_time()
    Map.merge(measurements, %{duration: now - began, monotonic_time: now})
  end

  @doc """
  Emits `[:emily, :memory, :stats]` with what `Emily.Memory.stats/0` says.

  For `:telemetry_poller`, which calls it every so often:

      {:telemetry_poller, measurements: [{Emily.Telemetry, :memory_stats, []}], period: 10_000}

      iex> Emily.Telemetry.memory_stats()
      :ok
  """
  @spec memory_stats() :: :ok
  def memory_stats, do: :telemetry.execute([:emily, :memory, :stats], Emily.Memory.stats(), %{})
end
