defmodule Emily.Native.DefaultStream do
  @moduledoc false
  # Owns the stream that calls use when they name none.
  #
  # A stream ends when its last reference is collected, so one process holds it for as long as the
  # application runs; everyone else reads it without a copy or a message.

  use GenServer

  alias Emily.Native

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  The default stream.

  Raises `Emily.Error` if the native library is not loaded, or the application is not started.
  """
  @spec get() :: reference()
  def get do
    with nil <- :persistent_term.get(__MODULE__, nil), do: raise(Emily.Error, reason: absence())
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
      {:ok, hold(Native.stream_new(device()))}
    end
  end

  # The GPU where there is one.
  defp device do
    {:ok, %{devices: devices}} = Native.info()
    if :gpu in devices, do: :gpu, else: :cpu
  end

  defp hold(stream) do
    :persistent_term.put(__MODULE__, stream)
    stream
  end
end
