defmodule Emily.Error do
  @moduledoc """
  MLX could not do what it was asked.

  Carries what is needed to find the call: the operation, its inputs' and its output's types and
  shapes, its attributes and its stream, as text; these are `nil` where no single operation is to
  blame. Arguments that do not fit raise `ArgumentError` instead.
  """

  @type t :: %__MODULE__{
          reason: String.t(),
          op: String.t() | nil,
          inputs: String.t() | nil,
          output: String.t() | nil,
          attributes: String.t() | nil,
          stream: String.t() | nil
        }

  defexception [:reason, :op, :inputs, :output, :attributes, :stream]

  @impl true
  def message(%__MODULE__{op: nil, reason: reason}), do: reason

  def message(error) do
    """
    #{error.op} failed: #{error.reason}
      inputs:     #{error.inputs}
      output:     #{error.output}
      attributes: #{error.attributes}
      stream:     #{error.stream}\
    """
  end
end
