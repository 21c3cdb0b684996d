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
  Gives the memory that no tensor uses back to the system.

      iex> Emily.Memory.clear_cache()
      :ok
  """
  @spec clear_cache() :: :ok
  def clear_cache, do: Native.clear_cache()
end
