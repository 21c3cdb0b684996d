defmodule Emily.Native.Observer do
  @moduledoc false
  # Lets a module stand around whatever processes wait for: computations, and reads that need one.
  #
  # The application names the module when it starts. What is at hand without waiting never comes
  # here, so that reading it costs nothing more.

  @typedoc "What the process asked for."
  @type kind :: :eval | :to_binary

  @typedoc "Where the tensor is computed, if who asked for it knows."
  @type device :: :cpu | :gpu | nil

  @doc """
  Calls `fun`, which waits, and returns what it returns. What it raises must pass through.

  The answer is on its way already: a callback that does not call `fun` leaves a message behind.
  """
  @callback wait(kind(), Emily.t(), device(), fun :: (-> result)) :: result when result: term()

  @doc "Names the module that is called from now on; with nil there is none."
  @spec set(module() | nil) :: :ok
  def set(module), do: :persistent_term.put(__MODULE__, module)

  @doc "Waits by calling `fun`, with the observer around it where there is one."
  @spec wait(kind(), Emily.t(), device(), (-> result)) :: result when result: term()
  def wait(kind, tensor, device, fun) do
    case :persistent_term.get(__MODULE__, nil) do
      nil -> fun.()
      module -> module.wait(kind, tensor, device, fun)
    end
  end
end
