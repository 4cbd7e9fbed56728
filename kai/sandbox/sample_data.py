"""The texts of the sample: three invented databases, the questions asked of them, the rules to follow.

In a question, `{Mara Lind|person}` marks an entity with its label.
"""

from __future__ import annotations

DATABASES = {
    "library": ("Town library", "postgresql", "Loans, members and holdings of a small town library."),
    "bicycles": ("Bicycle shop", "mysql", "Sales, repairs and stock of a shop with two branches."),
    "hospital": ("District hospital", "postgresql", "Wards, stays and appointments of a district hospital."),
}
"""Id -> (alias, dialect, description)."""

QUESTIONS: dict[str, list[tuple[str, str]]] = {
    "library": [
        ("How many books are on loan today?", "SELECT count(*) FROM loans WHERE returned_on IS NULL"),
        (
            "Which members have overdue books?",
            "SELECT DISTINCT m.name FROM members m JOIN loans l ON l.member_id = m.id "
            "WHERE l.returned_on IS NULL AND l.due_on < current_date",
        ),
        (
            "Show all books written by {Mara Lind|person}",
            "SELECT title FROM books WHERE author = 'Mara Lind'",
        ),
        (
            "What are the {ten|number} most borrowed titles of {2025|year}?",
            "SELECT b.title, count(*) AS times FROM loans l JOIN books b ON b.id = l.book_id "
            "WHERE extract(year FROM l.lent_on) = 2025 GROUP BY b.title ORDER BY times DESC LIMIT 10",
        ),
        (
            "How many new members joined in {March|month}?",
            "SELECT count(*) FROM members WHERE extract(month FROM joined_on) = 3",
        ),
        (
            "Which books have never been borrowed?",
            "SELECT title FROM books WHERE id NOT IN (SELECT book_id FROM loans)",
        ),
        (
            "What does {Tomas Adler|person} have at home?",
            "SELECT b.title FROM loans l JOIN books b ON b.id = l.book_id "
            "JOIN members m ON m.id = l.member_id WHERE m.name = 'Tomas Adler' AND l.returned_on IS NULL",
        ),
        (
            "How much was collected in late fees last year?",
            "SELECT sum(amount) FROM fees WHERE extract(year FROM paid_on) = extract(year FROM current_date) - 1",
        ),
        (
            "How long does a member keep a book on average?",
            "SELECT avg(returned_on - lent_on) FROM loans WHERE returned_on IS NOT NULL",
        ),
        (
            "List the children's books bought since {2023|year}",
            "SELECT title FROM books WHERE section = 'children' AND extract(year FROM bought_on) >= 2023",
        ),
        (
            "Which shelf holds {The Glass Orchard|title}?",
            "SELECT shelf FROM books WHERE title = 'The Glass Orchard'",
        ),
        (
            "How many copies of each genre do we own?",
            "SELECT genre, sum(copies) FROM books GROUP BY genre ORDER BY genre",
        ),
        (
            "Which reservations have been waiting for more than {30|number} days?",
            "SELECT * FROM reservations WHERE current_date - made_on > 30 AND fulfilled_on IS NULL",
        ),
        (
            "On which weekday are most books returned?",
            "SELECT to_char(returned_on, 'Day') AS day FROM loans WHERE returned_on IS NOT NULL "
            "GROUP BY day ORDER BY count(*) DESC LIMIT 1",
        ),
        (
            "Who borrowed more than {50|number} books?",
            "SELECT m.name FROM members m JOIN loans l ON l.member_id = m.id GROUP BY m.name HAVING count(*) > 50",
        ),
        (
            "How many members live in {Oakfield|place}?",
            "SELECT count(*) FROM members WHERE town = 'Oakfield'",
        ),
        (
            "Which author is borrowed by the most different members?",
            "SELECT b.author FROM loans l JOIN books b ON b.id = l.book_id GROUP BY b.author "
            "ORDER BY count(DISTINCT l.member_id) DESC LIMIT 1",
        ),
    ],
    "bicycles": [
        (
            "What did we earn with repairs in {June|month}?",
            "SELECT SUM(price) FROM repairs WHERE MONTH(finished_on) = 6",
        ),
        (
            "Which bicycles cost more than {2000|number} euros?",
            "SELECT model FROM bicycles WHERE price > 2000",
        ),
        (
            "How many electric bicycles are in stock?",
            "SELECT SUM(quantity) FROM stock s JOIN bicycles b ON b.id = s.bicycle_id WHERE b.is_electric",
        ),
        (
            "Which repairs are still waiting for parts?",
            "SELECT id, customer_id FROM repairs WHERE status = 'waiting for parts'",
        ),
        (
            "List everything that {Ines Calder|person} bought",
            "SELECT b.model, s.sold_on FROM sales s JOIN bicycles b ON b.id = s.bicycle_id "
            "JOIN customers c ON c.id = s.customer_id WHERE c.name = 'Ines Calder'",
        ),
        (
            "Who is our best customer by revenue?",
            "SELECT c.name FROM sales s JOIN customers c ON c.id = s.customer_id "
            "GROUP BY c.name ORDER BY SUM(s.price) DESC LIMIT 1",
        ),
        (
            "How many helmets were sold with a bicycle?",
            "SELECT COUNT(*) FROM sale_items WHERE category = 'helmet' AND sale_id IN "
            "(SELECT sale_id FROM sale_items WHERE category = 'bicycle')",
        ),
        (
            "What is the average price of a child's bicycle?",
            "SELECT AVG(price) FROM bicycles WHERE category = 'child'",
        ),
        (
            "Which supplier delivers {Corvane|brand} frames?",
            "SELECT s.name FROM suppliers s JOIN parts p ON p.supplier_id = s.id "
            "WHERE p.brand = 'Corvane' AND p.kind = 'frame'",
        ),
        (
            "Compare the sales of the two branches in {2025|year}",
            "SELECT branch, SUM(price) FROM sales WHERE YEAR(sold_on) = 2025 GROUP BY branch",
        ),
        (
            "Which parts fell below their reorder level?",
            "SELECT name FROM parts WHERE in_stock < reorder_level",
        ),
        (
            "How many days does a repair take on average?",
            "SELECT AVG(DATEDIFF(finished_on, received_on)) FROM repairs WHERE finished_on IS NOT NULL",
        ),
        (
            "Which mechanic repaired the most brakes?",
            "SELECT mechanic FROM repairs WHERE kind = 'brakes' GROUP BY mechanic ORDER BY COUNT(*) DESC LIMIT 1",
        ),
        (
            "How many tyres of {28|number} inches are left in {Harbour Street|place}?",
            "SELECT SUM(in_stock) FROM parts WHERE kind = 'tyre' AND inches = 28 AND branch = 'Harbour Street'",
        ),
        (
            "Show monthly revenue for the last {12|number} months",
            "SELECT DATE_FORMAT(sold_on, '%Y-%m') AS month, SUM(price) FROM sales "
            "WHERE sold_on >= CURDATE() - INTERVAL 12 MONTH GROUP BY month ORDER BY month",
        ),
        (
            "Which rented bicycles have not come back?",
            "SELECT bicycle_id FROM rentals WHERE returned_at IS NULL",
        ),
        (
            "How often was {the Falcon 3|model} returned as defective?",
            "SELECT COUNT(*) FROM complaints c JOIN bicycles b ON b.id = c.bicycle_id WHERE b.model = 'Falcon 3'",
        ),
    ],
    "hospital": [
        ("How many beds are free right now?", "SELECT count(*) FROM beds WHERE patient_id IS NULL"),
        (
            "Which ward had the most admissions in {January|month}?",
            "SELECT ward_id FROM stays WHERE extract(month FROM admitted_on) = 1 "
            "GROUP BY ward_id ORDER BY count(*) DESC LIMIT 1",
        ),
        (
            "What is the average length of stay in {cardiology|ward}?",
            "SELECT avg(discharged_on - admitted_on) FROM stays s JOIN wards w ON w.id = s.ward_id "
            "WHERE w.name = 'cardiology'",
        ),
        (
            "List tomorrow's appointments of {Doctor Amsel|person}",
            "SELECT a.starts_at, a.patient_id FROM appointments a JOIN doctors d ON d.id = a.doctor_id "
            "WHERE d.name = 'Amsel' AND a.starts_at::date = current_date + 1",
        ),
        (
            "How many patients were readmitted within {30|number} days?",
            "SELECT count(DISTINCT a.patient_id) FROM stays a JOIN stays b ON b.patient_id = a.patient_id "
            "AND b.admitted_on > a.discharged_on AND b.admitted_on <= a.discharged_on + 30",
        ),
        (
            "Which nurses work the night shift on {Sunday|weekday}?",
            "SELECT n.name FROM shifts s JOIN nurses n ON n.id = s.nurse_id "
            "WHERE s.kind = 'night' AND extract(isodow FROM s.day) = 7",
        ),
        (
            "What is the longest waiting time in the emergency room today?",
            "SELECT max(seen_at - arrived_at) FROM emergency_visits WHERE arrived_at::date = current_date",
        ),
        (
            "How many operations were cancelled in {2025|year}?",
            "SELECT count(*) FROM operations WHERE status = 'cancelled' AND extract(year FROM planned_for) = 2025",
        ),
        (
            "Which medicines are out of stock?",
            "SELECT name FROM medicines WHERE in_stock = 0 ORDER BY name",
        ),
        (
            "How many children were born here last month?",
            "SELECT count(*) FROM births WHERE date_trunc('month', born_on) = "
            "date_trunc('month', current_date - interval '1 month')",
        ),
        (
            "Which laboratory results are still missing for ward {4B|ward}?",
            "SELECT t.id FROM tests t JOIN stays s ON s.patient_id = t.patient_id "
            "JOIN wards w ON w.id = s.ward_id WHERE w.code = '4B' AND t.result IS NULL",
        ),
        (
            "Show the occupancy of every ward in percent",
            "SELECT ward_id, 100.0 * count(patient_id) / count(*) FROM beds GROUP BY ward_id",
        ),
        (
            "How many X-rays does {Doctor Brandt|person} order in a week?",
            "SELECT count(*) / 52.0 FROM tests t JOIN doctors d ON d.id = t.ordered_by "
            "WHERE d.name = 'Brandt' AND t.kind = 'x-ray' AND t.ordered_on > current_date - 364",
        ),
        (
            "Which appointments were missed without notice?",
            "SELECT id, patient_id FROM appointments WHERE status = 'missed'",
        ),
        (
            "What share of patients is older than {65|number}?",
            "SELECT avg((age(born_on) > interval '65 years')::int) FROM patients",
        ),
        (
            "How many staff members are on leave in {August|month}?",
            "SELECT count(DISTINCT employee_id) FROM leave WHERE extract(month FROM day) = 8",
        ),
    ],
}
"""Database id -> (question, SQL that answers it)."""

INSTRUCTIONS: list[tuple[str, str, str, bool]] = [
    ("library", "Always", "Dates are shown as day, month, year; never show a member's address.", True),
    (
        "library",
        "When the question is about overdue books",
        "A book is overdue from the day after due_on; books that were renewed count from the new date.",
        False,
    ),
    (
        "library",
        "When popular titles are asked for",
        "Count loans, not reservations, and leave out loans by the staff.",
        False,
    ),
    ("bicycles", "Always", "Amounts are euros including tax, rounded to cents.", True),
    (
        "bicycles",
        "When revenue is asked for",
        "Add sales and repairs together unless the question names only one of them.",
        False,
    ),
    (
        "bicycles",
        "When stock is asked for without a branch",
        "Sum over both branches and name the quantity in each.",
        False,
    ),
    (
        "hospital",
        "When patients are listed",
        "Show the patient's number only; names and dates of birth stay out of every answer.",
        False,
    ),
    (
        "hospital",
        "When the length of a stay is asked for",
        "Count nights, and leave out stays that have not ended.",
        False,
    ),
]
"""(database id, condition, rules, is_default)."""
