defmodule Emily.Artifact.DoctestTest do
  use ExUnit.Case, async: true

  doctest Emily.Artifact.Checksum
  doctest Emily.Artifact.Http
  doctest Emily.Artifact.Json
  doctest Emily.Artifact.Report
end
