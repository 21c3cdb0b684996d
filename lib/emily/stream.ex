defmodule Emily.Stream do
  @moduledoc """
  Queues of work: what is on one stream is computed in order, and beside what is on others.

  Work goes to a stream that Emily owns, one for each device, unless a process says otherwise:

      iex> stream = Emily.Stream.new(:cpu)
      iex> Emily.Stream.with_stream(stream, fn ->
      ...>   Emily.op(:iota, [], type: {:u, 8}, shape: [3]) |> Emily.to_binary()
      ...> end)
      <<0, 1, 2>>

  A tensor is computed on the stream that it was made on, whoever reads it, and tensors of one stream
  can be used on others: weights need not be copied. A stream ends when no process holds it, a
  tensor that was made on it, or a binary that was read from one.
  """

  alias Emily.Native
  alias Emily.Native.DefaultStream

  @enforce_keys [:ref, :device]
  defstruct [:ref, :device]

  @type t :: %__MODULE__{ref: reference(), device: :cpu | :gpu}

  # What `with_stream/2` says of this process: a stream for each device that it was called for, and
  # which device counts as the default one.
  @key :"$emily_streams"

  @doc """
  Makes a stream on a device, or on the default one: the GPU where there is one.

  Raises `ArgumentError` if this machine has no such device.
  """
  @spec new(:cpu | :gpu | nil) :: t()
  def new(device \\ nil) do
    device = device || DefaultStream.device()
    %__MODULE__{ref: Native.stream_new(device), device: device}
  end

  @doc """
  Calls `fun` with `stream` in place of its device's own for this process, and its device in place of
  the default one. Calls can be nested.

  Returns what `fun` returns. What it throws or raises passes through; the stream before counts again
  in either case.
  """
  @spec with_stream(t(), (-> result)) :: result when result: term()
  def with_stream(%__MODULE__{ref: ref, device: device}, fun) when is_function(fun, 0) do
    before = Process.get(@key)
    Process.put(@key, Map.merge(before || %{}, %{device => ref, device: device}))

    try do
      fun.()
    after
      if before, do: Process.put(@key, before), else: Process.delete(@key)
    end
  end

  @doc false
  # The device that counts as the default one for this process.
  def device do
    case Process.get(@key) do
      nil -> DefaultStream.device()
      %{device: device} -> device
    end
  end

  @doc false
  # The native stream for this process' work on its default device.
  def reference do
    case Process.get(@key) do
      nil -> DefaultStream.get()
      %{device: device} = streams -> Map.fetch!(streams, device)
    end
  end

  @doc false
  # The native stream for this process' work on a device.
  def reference(device) do
    case Process.get(@key) do
      %{^device => ref} -> ref
      _none -> DefaultStream.get(device)
    end
  end
end
