defmodule Emily.Artifact.Console do
  @moduledoc """
  Shows the events of an install: sentences as lines, progress as a bar where there is a terminal.
  """

  alias Emily.Artifact.Install

  @bar_width 30
  @redraw_ms 100

  @enforce_keys [:info, :warning, :drawn_at]
  defstruct @enforce_keys ++ [:draw, clock: &__MODULE__.monotonic_ms/0]

  @typedoc """
  Where to show things. `draw` writes text as it is, and is nil where there is no terminal.
  """
  @type t :: %__MODULE__{
          info: (String.t() -> any()),
          warning: (String.t() -> any()),
          draw: (String.t() -> any()) | nil,
          clock: (-> integer()),
          drawn_at: :atomics.atomics_ref()
        }

  @doc "A console; see `t:t/0` for the options."
  @spec new(keyword()) :: t()
  def new(options) do
    struct!(__MODULE__, [drawn_at: :atomics.new(1, signed: true)] ++ options)
  end

  @doc "Writes to the standard output, if that is a terminal."
  @spec terminal(keyword() | {:error, term()}) :: (String.t() -> any()) | nil
  def terminal(options \\ :io.getopts()) do
    if is_list(options) and Keyword.get(options, :stdout, false), do: &IO.write/1
  end

  @doc "Shows one event."
  @spec show(t(), Install.event()) :: any()
  def show(%__MODULE__{} = console, {:info, text}) do
    end_bar(console)
    console.info.(text)
  end

  def show(%__MODULE__{} = console, {:warning, text}) do
    end_bar(console)
    console.warning.(text)
  end

  def show(%__MODULE__{draw: nil}, {:progress, _done, _total}), do: :ok

  def show(%__MODULE__{} = console, {:progress, done, total}) do
    now = console.clock.()
    drawn_at = :atomics.get(console.drawn_at, 1)

    if done == total or drawn_at == 0 or now - drawn_at >= @redraw_ms do
      :atomics.put(console.drawn_at, 1, now)
      console.draw.(bar(done, total))
    end

    if done == total, do: end_bar(console)
  end

  def show(%__MODULE__{}, {:step, _step}), do: :ok

  @doc "Ends the line of a bar that was left in the middle, so that other output begins clean."
  @spec end_bar(t()) :: :ok
  def end_bar(%__MODULE__{} = console) do
    if :atomics.exchange(console.drawn_at, 1, 0) != 0, do: console.draw.("\n")
    :ok
  end

  # The carriage return first: each bar replaces the one before.
  defp bar(done, nil), do: "\r  #{megabytes(done)} MB "

  defp bar(done, total) do
    filled = div(done * @bar_width, total)
    bar = String.duplicate("=", filled) <> String.duplicate(" ", @bar_width - filled)
    percent = String.pad_leading("#{div(done * 100, total)}", 3)
    "\r  [#{bar}] #{percent} %  #{megabytes(done)} of #{megabytes(total)} MB "
  end

  @doc """
  A number of bytes in megabytes.

      iex> Emily.Artifact.Console.megabytes(12_345_678)
      "12.3"
  """
  @spec megabytes(non_neg_integer()) :: String.t()
  def megabytes(bytes), do: :erlang.float_to_binary(bytes / 1_000_000, decimals: 1)

  @doc false
  def monotonic_ms, do: System.monotonic_time(:millisecond)
end
