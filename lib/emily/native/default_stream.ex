defmodule Emily.Native.DefaultStream do
  @moduledoc false
  # Owns the streams that calls use when they name none: one for each device.
  #
  # A stream ends when its last reference is collected, so one process holds them for as long as the
  # application runs; everyone else reads them without a copy or a message.

  use GenServer

  alias Emily.Native

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  The stream of the default device, which is the GPU where there is one.

  Raises `Emily.Error` if the native library is not loaded, or the application is not started.
  """
  @spec get() :: reference()
  def get, do: held(__MODULE__)

  @doc """
  The stream of a device.

  Raises `ArgumentError` if this machine has no such device.
  """
  @spec get(:cpu | :gpu) :: reference()
  def get(device) do
    with nil <- :persistent_term.get({__MODULE__, device}, nil) do
      _started = get()

      raise ArgumentError,
            "expected :device to be :#{device()} on this machine, got: #{inspect(device)}"
    end
  end

  @doc "The default device."
  @spec device() :: :cpu | :gpu
  def device, do: held({__MODULE__, :device})

  defp held(key) do
    with nil <- :persistent_term.get(key, nil), do: raise(Emily.Error, reason: absence())
  end

  defp absence do
    case Native.load_error() do
      nil -> "the application :emily is not started: call Application.ensure_all_started(:emily)"
      text -> "the native library of Emily is not loaded: #{text}"
    end
  end

  @impl true
  def init(nil) do
    if Native.load_error() do
      :ignore
    else
      {:ok, %{devices: devices}} = Native.info()
      {:ok, hold(devices, Map.new(devices, &{&1, Native.stream_new(&1)}))}
    end
  end

  defp hold(devices, streams) do
    default = if :gpu in devices, do: :gpu, else: :cpu
    for {device, stream} <- streams, do: :persistent_term.put({__MODULE__, device}, stream)
    :persistent_term.put({__MODULE__, :device}, default)
    :persistent_term.put(__MODULE__, streams[default])
    streams
  end
end
