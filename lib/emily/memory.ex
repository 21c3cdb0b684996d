defmodule Emily.Memory do
  @moduledoc """
  The memory that MLX holds, in bytes.

  A tensor's memory is free once no process holds the tensor: when the garbage collector of the last
  process that did has run, not before. MLX keeps freed memory for the next tensors.
  """

  alias Emily.Native

  @typedoc """
  `:active` bytes are in tensors and in what is being computed, `:peak` is the most that was active at
  a time, and `:cache` bytes are kept for the next tensors.
  """
  @type stats :: %{
          active: non_neg_integer(),
          peak: non_neg_integer(),
          cache: non_neg_integer()
        }

  @doc """
  Returns what MLX holds now, in this VM and on all devices together.

      iex> stats = Emily.Memory.stats()
      iex> stats.active <= stats.peak
      true
  """
  @spec stats() :: stats()
  def stats, do: Native.memory()

  @doc """
  Counts `:peak` anew, from what is active now.

      iex> Emily.Memory.reset_peak()
      :ok
  """
  @spec reset_peak() :: :ok
  def reset_peak, do: Native.reset_peak_memory()

  @doc """
  Has MLX use at most `bytes`, and returns how many it was before.

  An operation whose result alone is larger is refused with an `ArgumentError`. Beyond the limit MLX waits
  for what is being computed before it begins anything else. At first it is a good part of the
  machine's memory, or what the container or `ulimit -v` leaves of it.

  Raises `ArgumentError` if `bytes` is no positive integer.
  """
  @spec set_limit(pos_integer()) :: pos_integer()
  def set_limit(bytes), do: Native.set_memory_limit(bytes)

  @doc """
  Has MLX keep at most `bytes` of freed memory for the next tensors, and returns how many it was before.

  With 0 every tensor's memory goes back to the system at once, which makes new tensors slower.
  """
  @spec set_cache_limit(non_neg_integer()) :: non_neg_integer()
  def set_cache_limit(bytes), do: Native.set_cache_limit(bytes)

  @doc """
  Gives the memory that no tensor uses back to the system.

      iex> Emily.Memory.clear_cache()
      :ok
  """
  @spec clear_cache() :: :ok
  def clear_cache, do: Native.clear_cache()
end
