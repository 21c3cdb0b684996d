defmodule Emily.Doctor.Check do
  @moduledoc """
  One row of the doctor's table: a question, what must have passed before it makes sense to ask,
  and the module that answers it.

  That module implements `c:run/2`. It looks at the world only through the environment, so a test
  can put any machine in front of it, and gets the facts of the checks that it needs under their
  names.
  """

  alias Emily.Doctor.{Environment, Outcome}

  @enforce_keys [:id, :title, :module]
  defstruct [:id, :title, :module, needs: []]

  @type id :: atom()
  @type t :: %__MODULE__{id: id(), title: String.t(), module: module(), needs: [id()]}

  @doc "Answers the check's question for the machine that `environment` describes."
  @callback run(environment :: Environment.t(), facts :: %{id() => map()}) :: Outcome.t()
end
