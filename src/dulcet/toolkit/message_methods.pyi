# Made by tools/generate_message_stubs.py from the message table; do not edit.
from collections.abc import Sequence

from dulcet.dimse.status import Status
from dulcet.toolkit.messages import DataSet, DataSetSource

class MessageMethods:
    def send_c_store_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        instance_uid: str,
        priority: int = 0,
        move_originator_ae: str | None = None,
        move_originator_id: int | None = None,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_c_store_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        priority: int,
        move_originator_ae: str | None,
        move_originator_id: int | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_c_store_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        instance_uid: str | None = None,
        status: int | None = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
    ) -> int: ...
    def on_receive_c_store_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        status: Status,
    ) -> None: ...
    def send_c_find_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        priority: int = 0,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_c_find_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        priority: int,
        data_set: DataSet | None,
    ) -> None: ...
    def send_c_find_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        status: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
    ) -> int: ...
    def on_receive_c_find_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        status: Status,
        data_set: DataSet | None,
    ) -> None: ...
    def send_c_get_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        priority: int = 0,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_c_get_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        priority: int,
        data_set: DataSet | None,
    ) -> None: ...
    def send_c_get_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        status: int | None = None,
        remaining: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        warning: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
    ) -> int: ...
    def on_receive_c_get_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        status: Status,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_c_move_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        priority: int,
        move_destination: str,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_c_move_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        priority: int,
        move_destination: str | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_c_move_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        status: int | None = None,
        remaining: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        warning: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
    ) -> int: ...
    def on_receive_c_move_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        status: Status,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_c_echo_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
    ) -> int: ...
    def on_receive_c_echo_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
    ) -> None: ...
    def send_c_echo_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        status: int | None = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
    ) -> int: ...
    def on_receive_c_echo_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        status: Status,
    ) -> None: ...
    def send_c_cancel_request(
        self,
        presentation_id: int,
        message_id: int | None,
    ) -> int: ...
    def on_receive_c_cancel_request(
        self,
        presentation_id: int,
        message_id: int,
    ) -> None: ...
    def send_n_event_report_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        instance_uid: str,
        event_type_id: int,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_n_event_report_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        event_type_id: int | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_event_report_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        instance_uid: str | None = None,
        status: int | None = None,
        event_type_id: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
        attributes: Sequence[int] | None = None,
    ) -> int: ...
    def on_receive_n_event_report_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        status: Status,
        event_type_id: int | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_get_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        instance_uid: str,
        attributes: Sequence[int] | None = None,
    ) -> int: ...
    def on_receive_n_get_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        attributes: Sequence[int],
    ) -> None: ...
    def send_n_get_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        instance_uid: str | None = None,
        status: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
        attributes: Sequence[int] | None = None,
    ) -> int: ...
    def on_receive_n_get_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        status: Status,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_set_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        instance_uid: str,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_n_set_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_set_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        instance_uid: str | None = None,
        status: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
        attributes: Sequence[int] | None = None,
    ) -> int: ...
    def on_receive_n_set_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        status: Status,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_action_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        instance_uid: str,
        action_type_id: int,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_n_action_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        action_type_id: int | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_action_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        instance_uid: str | None = None,
        status: int | None = None,
        action_type_id: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
        attributes: Sequence[int] | None = None,
    ) -> int: ...
    def on_receive_n_action_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        status: Status,
        action_type_id: int | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_create_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        instance_uid: str | None = None,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_n_create_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_create_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        instance_uid: str | None = None,
        status: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
        attributes: Sequence[int] | None = None,
    ) -> int: ...
    def on_receive_n_create_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        status: Status,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_delete_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        instance_uid: str,
    ) -> int: ...
    def on_receive_n_delete_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
    ) -> None: ...
    def send_n_delete_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        instance_uid: str | None = None,
        status: int | None = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
    ) -> int: ...
    def on_receive_n_delete_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        status: Status,
    ) -> None: ...
    def send_n_report_request(
        self,
        presentation_id: int,
        message_id: int | None,
        class_uid: str,
        instance_uid: str,
        event_type_id: int,
        data_set: DataSetSource = None,
    ) -> int: ...
    def on_receive_n_report_request(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        event_type_id: int | None,
        data_set: DataSet | None,
    ) -> None: ...
    def send_n_report_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None = None,
        instance_uid: str | None = None,
        status: int | None = None,
        event_type_id: int | None = None,
        data_set: DataSetSource = None,
        *,
        offending_element: Sequence[int] | None = None,
        error_comment: str | None = None,
        error_id: int | None = None,
        attributes: Sequence[int] | None = None,
    ) -> int: ...
    def on_receive_n_report_response(
        self,
        presentation_id: int,
        message_id: int,
        class_uid: str | None,
        instance_uid: str | None,
        status: Status,
        event_type_id: int | None,
        data_set: DataSet | None,
    ) -> None: ...
